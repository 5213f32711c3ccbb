/** The SHA-256 of a file, also over plain HTTP, where browsers offer none. FIPS 180-4. */

/**
 * @param {File} file
 * @returns {Promise<string>} 64 hexadecimal digits
 */
export async function digestOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const digest = crypto.subtle ? new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)) : sha256(bytes);
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {number} count @returns {number[]} the first primes */
function primes(count) {
  const found = [];
  for (let number = 2; found.length < count; number += 1) if (found.every((prime) => number % prime)) found.push(number);
  return found;
}

/** @param {number} value @returns {number} the first 32 bits of its fraction */
const fraction = (value) => Math.floor((value % 1) * 2 ** 32);

const ROUNDS = Int32Array.from(primes(64), (prime) => fraction(Math.cbrt(prime)));

/** @param {number} word @param {number} bits */
const turned = (word, bits) => (word >>> bits) | (word << (32 - bits));

/** @param {Uint8Array} bytes @returns {Uint8Array} */
export function sha256(bytes) {
  const hash = Int32Array.from(primes(8), (prime) => fraction(Math.sqrt(prime)));
  const padded = new DataView(new ArrayBuffer(64 * Math.ceil((bytes.length + 9) / 64)));
  new Uint8Array(padded.buffer).set(bytes);
  padded.setUint8(bytes.length, 0x80);
  padded.setBigUint64(padded.byteLength - 8, BigInt(8 * bytes.length));
  const words = new Int32Array(64);
  for (let start = 0; start < padded.byteLength; start += 64) {
    for (let i = 0; i < 64; i += 1) words[i] = i < 16 ? padded.getInt32(start + 4 * i) : extended(words, i);
    mix(hash, words);
  }
  const digest = new DataView(new ArrayBuffer(32));
  hash.forEach((word, place) => digest.setInt32(4 * place, word));
  return new Uint8Array(digest.buffer);
}

/** @param {Int32Array} words @param {number} i */
function extended(words, i) {
  const [two, fifteen] = [words[i - 2], words[i - 15]];
  const small = turned(fifteen, 7) ^ turned(fifteen, 18) ^ (fifteen >>> 3);
  return words[i - 16] + small + words[i - 7] + (turned(two, 17) ^ turned(two, 19) ^ (two >>> 10));
}

/** @param {Int32Array} hash changed in place @param {Int32Array} words */
function mix(hash, words) {
  let [a, b, c, d, e, f, g, h] = hash;
  for (let i = 0; i < 64; i += 1) {
    const first = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
    const second = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e; e = (d + first) | 0; d = c; c = b; b = a; a = (first + second) | 0;
  }
  [a, b, c, d, e, f, g, h].forEach((word, place) => { hash[place] += word; });
}
