// The two ways to a panel: the page that save_html writes, and the notebook's widget (anywidget).

import { unpack } from "./attention.js";
import { decodePicture, make } from "./drawing.js";
import { Panel } from "./panel.js";
import { paintProgress } from "./whatif.js";

/** Fill an element with a panel. data: description and bytes; store: {get, set} for "selection" and "view". */
export async function mount(root, description, bytes, store) {
  const data = unpack(description, bytes);
  const pictures = new Map();
  const images = data.runs.flatMap((run) => [run.query, ...run.supports]);
  await Promise.all(images.map(async (image) => pictures.set(image, await decodePicture(image))));
  root.panel = new Panel(root, data, pictures, store);
  return root.panel;
}

/** The page of save_html. */
export function mountPage(description, base64, state) {
  const characters = atob(base64);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return mount(document.getElementById("explorer"), description, bytes, {
    get: (name) => state[name],
    set: (name, value) => (state[name] = value),
  });
}

const ARRIVED = new Map(); // the bytes of each explorer, by its id, for all views of it

/** The bytes travel once: when they are here the kernel takes them out of the widget's state, so that no saved
 * notebook carries them; a page that is loaded again asks for them again. */
function bytesOf(model) {
  const id = model.get("_id");
  if (!ARRIVED.has(id)) {
    ARRIVED.set(
      id,
      new Promise((resolve) => {
        const take = () => {
          const content = model.get("_data");
          if (!content?.byteLength) return false;
          resolve(new Uint8Array(content.buffer, content.byteOffset, content.byteLength).slice());
          model.off("change:_data", take);
          model.send({ type: "arrived" });
          return true;
        };
        model.on("change:_data", take);
        if (!take()) model.send({ type: "send" });
      }),
    );
  }
  return ARRIVED.get(id);
}

export default {
  initialize({ model }) {
    bytesOf(model);
    return () => ARRIVED.delete(model.get("_id"));
  },

  async render({ model, el }) {
    const picture = model.get("_picture");
    if (picture?.byteLength) {
      const src = URL.createObjectURL(new Blob([picture], { type: "image/png" }));
      const onload = () => URL.revokeObjectURL(src);
      el.replaceChildren(make("img", { src, onload, alt: model.get("_alt"), style: "max-width: 100%" }));
    }
    let closed = false;
    let panel = null;
    bytesOf(model).then(async (bytes) => {
      if (closed) return;
      const root = make("div");
      panel = await mount(root, model.get("_description"), bytes, {
        get: (name) => model.get(name),
        set: (name, value) => {
          model.set(name, value);
          model.save_changes();
        },
        ask: (key) => model.send({ type: "ask", key }),
      });
      if (closed) return panel.close(); // meanwhile
      el.replaceChildren(root);
      for (const name of ["selection", "view"]) model.on(`change:${name}`, () => panel.receive());
      model.on("change:_answers", () => panel.paintAnswers());
      model.on("msg:custom", (message) => message.type === "progress" && paintProgress(panel, message));
    });
    return () => {
      closed = true;
      panel?.close();
    };
  },
};
