/* Plays the widgets of a built page without a kernel and without a network.
 *
 * A widget of this book is an anywidget: one ES module with `initialize` and `render` (the
 * "anywidget front-end module" convention, https://anywidget.dev/en/afm/). In Jupyter and Colab the
 * anywidget package hosts it; here this file does, from the state that was saved when the page was
 * built. The usual host for static pages (RequireJS and html-manager) weighs 3.6 MB and fetches
 * each module; this one is small and reads everything from the page, so a page also opens by
 * double click. An element that plays without a kernel carries data-kernel="none".
 */
"use strict";

(() => {
  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const modules = new Map(); // source text -> promise of the module, one per widget class
  const styles = new Set();

  /** Put the base64 buffers of a saved model back where its traits expect binary data. */
  function restoreBuffers(saved) {
    const state = structuredClone(saved.state);
    for (const { path, data } of saved.buffers ?? []) {
      const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
      const parent = path.slice(0, -1).reduce((node, key) => node[key], state);
      parent[path.at(-1)] = new DataView(bytes.buffer);
    }
    return state;
  }

  /** The model a widget sees: traits with change events, and nobody at the other end. */
  function createModel(state, getModel) {
    const listeners = new Map();
    const emit = (event, ...values) => {
      for (const listener of [...(listeners.get(event) ?? [])]) listener(...values);
    };
    const model = {
      get: (name) => state[name],
      set(name, value) {
        const changes = typeof name === "object" ? name : { [name]: value };
        let changed = false;
        for (const [key, next] of Object.entries(changes)) {
          if (state[key] === next) continue;
          state[key] = next;
          changed = true;
          emit(`change:${key}`, model, next);
        }
        if (changed) emit("change", model);
      },
      save_changes() {},
      send() {},
      on(events, listener) {
        for (const event of events.split(/\s+/)) {
          if (!listeners.has(event)) listeners.set(event, new Set());
          listeners.get(event).add(listener);
        }
      },
      off(events, listener) {
        if (!events) return listeners.clear();
        for (const event of events.split(/\s+/)) {
          if (listener) listeners.get(event)?.delete(listener);
          else listeners.delete(event);
        }
      },
      widget_manager: { get_model: getModel },
    };
    return model;
  }

  /** Import a module from its source: a blob needs neither a server nor a network. */
  function importSource(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      const loaded = import(url).then(async ({ default: widget }) =>
        typeof widget === "function" ? widget() : widget
      );
      modules.set(source, loaded);
    }
    return modules.get(source);
  }

  function addStyle(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    const style = document.createElement("style");
    style.textContent = css;
    document.head.append(style);
  }

  function start(savedModels) {
    const models = new Map(); // id -> promise of { model, widget }

    function load(id) {
      if (!models.has(id)) models.set(id, create(id));
      return models.get(id);
    }

    async function create(id) {
      const saved = savedModels[id];
      if (!saved) throw new Error(`The page holds no saved state of widget ${id}.`);
      if (saved.model_module !== "anywidget") {
        throw new Error(`This page plays anywidgets only, not ${saved.model_name}.`);
      }
      const state = restoreBuffers(saved);
      const getModel = async (reference) => (await load(reference.replace("IPY_MODEL_", ""))).model;
      const model = createModel(state, getModel);
      addStyle(state._css);
      const widget = await importSource(state._esm);
      await widget.initialize?.({ model });
      return { model, widget };
    }

    return async function show(script) {
      const element = document.createElement("div");
      element.className = "widget-host";
      element.dataset.kernel = "none";
      script.after(element);
      try {
        const { model, widget } = await load(JSON.parse(script.textContent).model_id);
        await widget.render({ model, el: element });
        element.dataset.ready = "true";
      } catch (error) {
        element.textContent = `This widget could not be shown: ${error.message}`;
        console.error(error);
      }
    };
  }

  function main() {
    const saved = document.querySelector(`script[type="${STATE}"]`);
    if (!saved) return;
    const show = start(JSON.parse(saved.textContent).state);
    document.querySelectorAll(`script[type="${VIEW}"]`).forEach(show);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", main);
  else main();
})();
