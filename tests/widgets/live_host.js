// Plays a widget whose Python is alive: messages and traits go to window.toPython and come back.
"use strict";

addEventListener("DOMContentLoaded", async () => {
  const json = (kind) => JSON.parse(document.querySelector(`script[type$="widget-${kind}+json"]`).textContent);
  const saved = json("state").state[json("view").model_id];
  const state = saved.state;
  const listeners = new Map();
  const dirty = {};

  const decode = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const encode = (buffer) => btoa(Array.from(new Uint8Array(buffer), (b) => String.fromCharCode(b)).join(""));
  function restore(target, buffers) {
    for (const { path, data } of buffers) {
      path.slice(0, -1).reduce((node, key) => node[key], target)[path.at(-1)] = decode(data);
    }
  }
  const emit = (event, ...values) => (listeners.get(event) ?? []).forEach((listener) => listener(...values));

  async function deliver(kind, content, buffers = []) {
    const answer = await window.toPython(kind, content, buffers.map(encode));
    restore(answer.state, answer.buffers);
    for (const [name, value] of Object.entries(answer.state)) {
      state[name] = value;
      emit(`change:${name}`);
    }
    for (const message of answer.messages) emit("msg:custom", message.content, message.buffers.map(decode));
  }

  const model = {
    get: (name) => state[name],
    set(name, value) {
      if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
      state[name] = dirty[name] = value;
      emit(`change:${name}`);
    },
    save_changes() {
      const changes = { ...dirty };
      Object.keys(dirty).forEach((name) => delete dirty[name]);
      if (Object.keys(changes).length) deliver("state", changes);
    },
    send: (content, callbacks, buffers) => deliver("message", content, buffers),
    on(event, listener) { listeners.set(event, [...(listeners.get(event) ?? []), listener]); },
    off() {},
  };

  restore(state, saved.buffers ?? []);
  const style = document.createElement("style");
  style.textContent = state._css;
  document.head.append(style);
  const url = URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  await widget.render({ model, el: document.querySelector("main") });
});
