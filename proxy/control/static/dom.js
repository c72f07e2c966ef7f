/**
 * Small hands for the document. Text from outside is only ever set as text, never as markup.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} id of an element that index.html has.
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found;
}

/**
 * Makes an element.
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node|string)} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Makes an element of a picture.
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...Node} children
 * @returns {SVGElement}
 */
export function draw(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Sets a text, if it is another one: what stays the same costs no layout, and a selection in it stays.
 * @param {Element} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Sets or (null) removes an attribute, if it is another one.
 * @param {Element} node
 * @param {string} name
 * @param {string|null} value
 */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) === value) return;
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

/**
 * Makes the children of a node those of a list. A child stays the same element for as long as its key is in
 * the list, so that focus, selection and what is unfolded in it stay as well.
 * @template T
 * @param {Element} parent
 * @param {T[]} items
 * @param {(item: T) => string} keyOf unique in the list.
 * @param {(item: T) => Element} create
 * @param {(element: any, item: T, index: number) => void} [update]
 */
export function keep(parent, items, keyOf, create, update = () => {}) {
  /** @type {Map<string, Element>} */
  const former = new Map();
  for (const child of parent.children) former.set(child.getAttribute("data-key") ?? "", child);
  const keys = new Set(items.map(keyOf));
  for (const [key, child] of former) {
    if (!keys.has(key)) child.remove();
  }
  const focused = document.activeElement;
  let place = parent.firstElementChild;
  items.forEach((item, index) => {
    const key = keyOf(item);
    let child = former.get(key);
    if (child === undefined) {
      child = create(item);
      child.setAttribute("data-key", key);
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item, index);
  });
  // An element that is moved loses the focus.
  if (focused instanceof HTMLElement && focused !== document.activeElement && parent.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
}
