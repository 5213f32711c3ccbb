/** Small helpers around the DOM. Text always goes in as text, never as markup. */

/**
 * @param {string} id
 * @returns {any} the element with that id
 */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag a tag name, with its class after a dot: `p.muted`
 * @param {Record<string, any>} [attributes] attributes; names that begin with `on` are listeners
 * @param {...(Node | string | null | undefined)} children
 * @returns {any}
 */
export function element(tag, attributes = {}, ...children) {
  const [name, className] = tag.split(".");
  const made = document.createElement(name);
  if (className) made.className = className;
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * @param {string} name of a symbol in the page
 * @returns {SVGElement} the icon, hidden from screen readers
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/**
 * Have a screen reader say something without showing it.
 * @param {string} sentence
 */
export function speak(sentence) {
  byId("spoken").textContent = sentence;
}
