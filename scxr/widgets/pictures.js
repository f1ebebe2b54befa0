// Bytes from Python into pictures: decoding, painting, outlines. Used by the widgets that show images.

// ---------------------------------------------------------------- bytes

// The inverse of packing.pack: a list of maps, each width x height values.
async function unpack(data, width, height) {
  const stream = new Blob([bytes(data)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const flat = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let i = 0; i < flat.length; i++) if (i % width) flat[i] += flat[i - 1];
  const size = width * height;
  return Array.from({ length: flat.length / size }, (_, i) => flat.subarray(i * size, (i + 1) * size));
}

const COLUMNS = 8;
const BLOCK = 8;
async function openSheet(data, width, height) {
  const image = await createImageBitmap(new Blob([bytes(data)], { type: "image/jpeg" }));
  const cell = (length) => Math.ceil(length / BLOCK) * BLOCK;
  return { image, width, height, at: (i) => [(i % COLUMNS) * cell(width), Math.floor(i / COLUMNS) * cell(height)] };
}

// ---------------------------------------------------------------- pictures

// matplotlib's viridis at 17 even steps (CC0), straight lines between: even for colour-blind eyes.
const VIRIDIS = ("440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1f9f88 27ad81 "
  + "3dbc74 5cc863 81d34d aadc32 d5e21a fde725").split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
function viridis(t) {
  const x = Math.min(Math.max(t, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(x), VIRIDIS.length - 2);
  return VIRIDIS[i].map((low, c) => low + (x - i) * (VIRIDIS[i + 1][c] - low));
}

// Draws on a canvas whose pixels are the picture's own.
function painter(canvas) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d");
  const paint = (pixel) => {
    const image = context.createImageData(width, height);
    for (let i = 0; i < width * height; i++) image.data.set(pixel(i), 4 * i);
    return image;
  };
  return {
    frame(sheet, index) {
      context.drawImage(sheet.image, ...sheet.at(index), sheet.width, sheet.height, 0, 0, width, height);
    },
    grey(values) { context.putImageData(paint((i) => [values[i], values[i], values[i], 255]), 0, 0); },
    // Heat over what is there already; `opacity(value in 0..1, pixel)` says how much of it shows.
    heat(values, opacity) {
      const layer = document.createElement("canvas");
      Object.assign(layer, { width, height });
      const image = paint((i) => [...viridis(values[i] / 255), 255 * opacity(values[i] / 255, i)]);
      layer.getContext("2d").putImageData(image, 0, 0);
      context.drawImage(layer, 0, 0);
    },
  };
}

// A canvas with an SVG of outlines over it, both in the picture's own pixels.
function picture(width, height, caption) {
  const canvas = h("canvas", { width, height, role: "img" });
  const overlay = s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const text = h("figcaption", { text: caption });
  const stage = h("div", { class: "scxr-stage" }, canvas, overlay);
  return {
    ...painter(canvas),
    root: h("figure", { class: "scxr-picture" }, stage, text), canvas, overlay, stage,
    caption(value) { text.textContent = value; },
    alt(value) { canvas.setAttribute("aria-label", value); },
    // This picture on another canvas, with the patches of `mask` covered.
    copyTo(other, mask, rows, columns) {
      const context = other.canvas.getContext("2d");
      context.drawImage(canvas, 0, 0);
      context.fillStyle = "#808080";
      const [w, hgt] = [width / columns, height / rows];
      mask.forEach((hidden, i) => { if (hidden) context.fillRect((i % columns) * w, Math.floor(i / columns) * hgt, w, hgt); });
    },
    clear() { overlay.replaceChildren(); },
    path(d, name) { overlay.append(s("path", { d, class: "casing" }), s("path", { d, class: name })); },
  };
}

// The border of a mask as an SVG path: marching squares between the centres of pixels.
function outline(mask, width, height) {
  const inside = (x, y) => Number(x >= 0 && y >= 0 && x < width && y < height && mask[y * width + x] > 0);
  const parts = [];
  for (let y = -1; y < height; y++) {
    for (let x = -1; x < width; x++) {
      const square = inside(x, y) + 2 * inside(x + 1, y) + 4 * inside(x + 1, y + 1) + 8 * inside(x, y + 1);
      if (square === 0 || square === 15) continue;
      const side = { n: `${x + 1} ${y + 0.5}`, e: `${x + 1.5} ${y + 1}`, s: `${x + 1} ${y + 1.5}`, w: `${x + 0.5} ${y + 1}` };
      for (const [from, to] of CUTS[square]) parts.push(`M${side[from]}L${side[to]}`);
    }
  }
  return parts.join("");
}
// Which sides of a square a border connects, for each set of corners inside (nw 1, ne 2, se 4, sw 8).
const CUTS = { 1: ["nw"], 2: ["ne"], 3: ["we"], 4: ["es"], 5: ["nw", "es"], 6: ["ns"], 7: ["ws"],
  8: ["ws"], 9: ["ns"], 10: ["ne", "ws"], 11: ["es"], 12: ["we"], 13: ["ne"], 14: ["nw"] };

const polygon = (points) => `M${points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L")}Z`;

function colourBar(low, high) {
  const stops = VIRIDIS.map((c) => `rgb(${c.join(" ")})`).join(", ");
  return h("div", { class: "scxr-bar" }, h("span", { text: low }),
    h("i", { style: `background: linear-gradient(to right, ${stops})` }), h("span", { text: high }));
}
