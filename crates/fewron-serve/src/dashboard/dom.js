// Making and changing elements. Texts of users and models come in as text, never as HTML.
export const byId = (id) => document.getElementById(id);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];

export function element(name, { className, text, ...attributes } = {}, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function svgElement(name, attributes = {}, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Changes nothing that is right already: selections and announcements stay.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// Makes the children of `parent` those of `items`, in order; those with a known key stay the same elements.
export function keyed(parent, items, keyOf, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = known.get(key);
    known.delete(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  for (const child of known.values()) child.remove();
}

// A name with its colour; `slot` is `d` for the dense model, else a number. Long names end in dots.
export function swatch(name, slot) {
  return element("span", { className: `swatch s${slot}`, title: name }, element("span", { text: name }));
}

// Draws `svg` in pixels of the screen, again whenever its width changes. Returns how to draw it again.
export function fitted(svg, draw) {
  const redraw = () => {
    const { width, height } = svg.getBoundingClientRect();
    if (!width || !height) return;
    setAttribute(svg, "viewBox", `0 0 ${width} ${height}`);
    draw(width, height);
  };
  new ResizeObserver(redraw).observe(svg);
  return redraw;
}
