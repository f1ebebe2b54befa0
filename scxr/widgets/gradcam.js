// Grad-CAM: where a network looks, beside where the finding is.

async function render({ model, el }) {
  const root = shell(el, "gradcam", "Where the network looks");
  const get = (name) => model.get(name);
  const names = ["finding", "image", "init", "stage", "opacity", "outlined"];
  const set = watch(model, names, redraw);
  const [, height, width] = get("shape");
  const entries = get("entries");
  const [photos, maps, regions] = await Promise.all([openSheet(get("pictures"), width, height),
    unpack(get("maps"), width, height), unpack(get("regions"), width, height)]);
  let own = null; // the reader's own picture, answered by the kernel

  const values = (key, where = {}) => [...new Set(entries
    .filter((e) => Object.entries(where).every(([k, v]) => e[k] === v)).map((e) => e[key]))];
  const inits = values("init");

  // Keep as much of the choice as exists; the rest falls back to the first that does.
  function change(key, value) {
    const fixed = { [key]: value };
    for (const k of ["finding", "image", "stage", "init"].filter((k) => k !== key)) {
      const possible = values(k, fixed);
      fixed[k] = possible.includes(get(k)) ? get(k) : possible[0];
    }
    own = null;
    link.forget();
    set(fixed);
  }

  const view = picture(width, height, "");
  const finding = select({ label: "Finding", onChange: (value) => change("finding", value) });
  const image = select({ label: "Image", onChange: (value) => change("image", Number(value)) });
  const stage = choice({ label: "Stage of the network", options: values("stage").map((v) => [v, v]), onChange: (v) => change("stage", v) });
  const opacity = slider({ label: "Opacity of the heat", format: (v) => percent(v), onInput: (value) => set({ opacity: value }) });
  opacity.range({ min: 0, max: 1, step: 0.05 });
  const outlined = checkbox({ label: "Outline the true region", onChange: (value) => set({ outlined: value }) });
  const status = liveText();
  const group = newId();
  const thumbs = inits.map((init) => thumb(init));
  const upload = ownPicture((data) => link.ask({ type: "explain", init: get("init"), stage: get("stage"), finding: get("finding") }, [data]));

  view.root.append(colourBar("cold", "hot"));
  root.append(
    h("div", { class: "scxr-side" },
      view.root,
      h("div", { class: "scxr-stack" }, finding.root, image.root, stage.root, opacity.root, outlined.root, upload.root, status)),
    h("fieldset", { class: "scxr-inits" }, h("legend", { text: "Initialisation (same image, same stage)" }),
      h("div", { class: "scxr-thumbs" }, ...thumbs.map((t) => t.root))));

  const link = kernel(model, root, {
    ready: (abilities) => { upload.root.hidden = !abilities.has("explain"); },
    reply: (message, [grey, heat]) => {
      own = message.type === "error" ? null : { grey, heat, peak: message.peak };
      redraw();
      if (message.type === "error") { say(status, message.message); status.classList.add("error"); }
    },
  });

  function thumb(init) {
    const id = newId();
    const input = h("input", { type: "radio", name: group, id, value: init, onchange: () => change("init", init) });
    const canvas = h("canvas", { width, height, "aria-hidden": "true" });
    const score = h("small");
    return { init, input, canvas, score, root: h("span", null, input, canvas, h("label", { for: id, text: init }, " ", score)) };
  }

  // Peaks that are shared between inside and outside count by their share.
  const verdict = (entry, yes, no) => (!entry.peak ? "empty" : entry.hit >= 0.5 ? yes : no);
  const entryFor = (init) => entries.find((e) => e.finding === get("finding") && e.image === get("image")
    && e.stage === get("stage") && e.init === init);

  function paint(target, entry) {
    target.frame(photos, entry.image);
    if (get("opacity") > 0) target.heat(maps[entry.map], (v) => get("opacity") * (0.1 + 0.9 * v));
  }

  const cross = ([x, y], r) => `M${x - r} ${y}H${x + r}M${x} ${y - r}V${y + r}`;

  function redraw() {
    finding.options(values("finding").map((f) => [f, f]), get("finding"));
    image.options(values("image", { finding: get("finding") }).map((i, k, all) => [i, `${k + 1} of ${all.length}`]), String(get("image")));
    stage.set(get("stage"));
    opacity.set(get("opacity"));
    outlined.input.checked = get("outlined");
    status.classList.remove("error");
    for (const t of thumbs) drawThumb(t);
    view.clear();
    if (own) return drawOwn();
    const entry = entryFor(get("init"));
    if (!entry) return say(status, "This combination was not computed.");
    paint(view, entry);
    if (get("outlined") && entry.region !== null) view.path(outline(regions[entry.region], width, height), "finding");
    if (entry.peak) view.path(cross(entry.peak, width / 40), "peak");
    view.caption(`${entry.init}, ${entry.stage}. The cross marks the hottest point, the yellow line the true region.`);
    describe(entry);
  }

  function drawOwn() {
    view.grey(own.grey);
    view.heat(own.heat, (v) => get("opacity") * (0.1 + 0.9 * v));
    if (own.peak) view.path(cross(own.peak, width / 40), "peak");
    view.caption(`Your picture: ${get("init")}, ${get("stage")}. The cross marks the hottest point.`);
    view.alt(`Your picture with the heat of ${get("init")}`);
    say(status, `Computed by the kernel: ${get("init")}, ${get("stage")}, ${get("finding")}. No true region is known, so there is no score.`);
  }

  function drawThumb(t) {
    const entry = entryFor(t.init);
    t.root.hidden = !entry;
    t.input.checked = t.init === get("init");
    if (!entry) return;
    paint(painter(t.canvas), entry);
    t.score.textContent = entry.hit === null ? "" : `${percent(entry.energy_inside)} inside, ${verdict(entry, "hit", "miss")}`;
  }

  function describe(entry) {
    const probe = entry.auc === null ? "" : ` (probe AUC ${entry.auc.toFixed(2)})`;
    const what = `${entry.finding}, ${entry.init}${probe}, ${entry.stage}`;
    for (const key of ["hit", "energy_inside", "area", "auc"]) status.dataset[key] = entry[key] ?? "";
    const text = entry.hit === null ? "no true region is known, so there is no score."
      : !entry.peak ? "nothing in the picture speaks for the finding, so the map is empty."
      : `the hottest point ${verdict(entry, "hits", "misses")} the region; ${percent(entry.energy_inside, 1)} of the energy lies inside. `
        + `The region covers ${percent(entry.area, 1)} of the picture, so that is ${number(entry.energy_inside / entry.area, 2)} times what an even spread would give.`;
    say(status, `${what}: ${text}`);
    view.alt(`Radiograph with the heat of ${what}: ${text}`);
  }

  redraw();
}

export default { render };
