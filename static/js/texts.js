/** The page's sentences and numbers in Spanish and English, as `?lang=`, the last choice or the browser says. */

const REMEMBERED = "bone-language";
const loaded = new Map();

/** @type {Record<string, string>} */
let texts = {};

/** @returns {"es" | "en"} */
export const language = () => /** @type {"es" | "en"} */ (document.documentElement.lang);

/** Load the sentences, in the first language that somebody asked for. */
export async function startTexts() {
  const asked = new URLSearchParams(location.search).get("lang");
  const known = (code) => code === "es" || code === "en";
  const browser = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
  await useLanguage([asked, localStorage.getItem(REMEMBERED), ...browser].find(known) ?? language());
}

/**
 * Change the language and remember it.
 * @param {string} chosen
 */
export async function chooseLanguage(chosen) {
  await useLanguage(chosen);
  localStorage.setItem(REMEMBERED, chosen);
}

/** @param {string} chosen */
async function useLanguage(chosen) {
  const code = chosen === "en" ? "en" : "es";
  if (!loaded.has(code)) loaded.set(code, await (await fetch(`static/texts/${code}.json`)).json());
  texts = loaded.get(code);
  document.documentElement.lang = code;
  document.title = texts.title;
  for (const place of document.querySelectorAll("[data-text]")) place.textContent = texts[place.dataset.text];
  for (const place of document.querySelectorAll("[data-label]")) place.setAttribute("aria-label", texts[place.dataset.label]);
  for (const place of document.querySelectorAll("[data-title]")) place.title = texts[place.dataset.title];
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === code));
  }
}

/**
 * @param {string} key
 * @param {Record<string, any>} [facts] to fill in
 * @returns {string} the sentence; the empty string where there is none
 */
export function say(key, facts = {}) {
  return (texts[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => facts[name] ?? "");
}

/**
 * @param {number} value 0 to 100
 * @param {number} [rounded] the whole number to show for it
 * @returns {string} such as «93 %»; what is not quite all or nothing is «>99 %» or «<1 %»
 */
export function whole(value, rounded = Math.round(value)) {
  const shown = (number) => new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 0 }).format(number / 100);
  if (value > 0 && value < 1) return `<${shown(1)}`;
  return value > 99 && value < 100 ? `>${shown(99)}` : shown(rounded);
}

/**
 * @param {number[]} values 0 to 100
 * @param {number} total a whole number next to their sum
 * @returns {number[]} whole ones that add up to it, by largest remainder
 */
export function wholes(values, total) {
  const floors = values.map(Math.floor);
  const missing = total - floors.reduce((sum, value) => sum + value, 0);
  const order = values.map((_, place) => place).sort((one, other) => values[other] - floors[other] - (values[one] - floors[one]));
  for (const place of order.slice(0, missing)) floors[place] += 1;
  return floors;
}

/**
 * @param {number} value
 * @param {number} [digits] after the decimal sign, at most
 */
export function number(value, digits = 1) {
  return new Intl.NumberFormat(language(), { maximumFractionDigits: digits }).format(value);
}

/**
 * @param {string[]} names
 * @returns {string} «a, b o c»
 */
export function either(names) {
  return new Intl.ListFormat(language() === "en" ? "en-GB" : "es", { type: "disjunction" }).format(names);
}

/**
 * @param {string} name of a class as the service gives it, or `none`
 * @returns {string} in the page's language, where that has a word for it
 */
export const classNamed = (name) => say(`class_${name}`) || name;

/**
 * @param {string} name of a class
 * @returns {string} with a capital letter
 */
export function capital(name) {
  return name.charAt(0).toLocaleUpperCase(language()) + name.slice(1);
}
