// One slide at a time: arrow keys, Page Up and Down, Home and End; N shows the notes. Without this script, all of them.
const slides = [...document.querySelectorAll("section")];
const bar = document.body.appendChild(document.createElement("nav"));
let now = 0;

function show(index, focus = true) {
  now = Math.max(0, Math.min(slides.length - 1, index));
  slides.forEach((slide, i) => { slide.hidden = i !== now; });
  place.textContent = `${now + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${now + 1}`);
  if (focus) slides[now].focus({ preventScroll: true });  // so that a screen reader reads it
}

function button(text, label, action) {
  const made = bar.appendChild(document.createElement("button"));
  made.append(text);
  made.setAttribute("aria-label", label);
  made.onclick = action;
}

const notes = () => document.body.classList.toggle("notes");
const place = bar.appendChild(document.createElement("span"));
button("‹", "previous slide", () => show(now - 1, false));
button("›", "next slide", () => show(now + 1, false));
button("N", "speaker notes", notes);
slides.forEach((slide, i) => {
  slide.tabIndex = -1;
  slide.setAttribute("aria-label", `slide ${i + 1} of ${slides.length}`);
});

const steps = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const target = { Home: 0, End: slides.length - 1 }[event.key] ?? now + (steps[event.key] ?? NaN);
  if (event.key.toLowerCase() === "n") notes();
  if (Number.isNaN(target)) return;
  event.preventDefault();
  show(target);
});
addEventListener("hashchange", () => show(parseInt(location.hash.slice(1), 10) - 1 || 0));
show(parseInt(location.hash.slice(1), 10) - 1 || 0, false);
