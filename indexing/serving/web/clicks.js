// Clicks on their way to the service. Each waits in this browser until the service has it on its disk, also when the page is closed or the
// service is gone; sent twice, it is stored once.

import { sendClicks } from "/web/api.js";

const BATCH = 50;
const pending = new Map();
let prefix = "", refused = "", sending = false, delay_s = 1, timer = 0, serial = 0, changed = () => {}, failed = () => {};

export function setUpClicks(collection, { onChange, onRefused }) {
  [prefix, refused, changed, failed] = [`tfcovr_click:${collection.name}:`, `tfcovr_refused:${collection.name}:`, onChange, onRefused];
  for (const key of Object.keys(localStorage).filter((name) => name.startsWith(prefix)).sort()) {
    try { pending.set(key, JSON.parse(localStorage.getItem(key))); } catch { localStorage.removeItem(key); }
  }
  addEventListener("online", flush);
  document.addEventListener("visibilitychange", flush);
  flush();
}

export const numWaiting = () => pending.size;

// The id of the click, which an undo names.
export function click(values) {
  const click_id = `${Date.now().toString(36)}-${crypto.getRandomValues(new Uint32Array(3)).join("-")}`;
  // In the order of the clicks, whatever the clock does meanwhile.
  const key = `${prefix}${String(Date.now()).padStart(15, "0")}-${String(serial++).padStart(6, "0")}`;
  const made = { click_id, ...values };
  pending.set(key, made);
  try { localStorage.setItem(key, JSON.stringify(made)); } catch { failed("This browser keeps nothing: leave the page open until all clicks are stored."); }
  changed();
  flush();
  return click_id;
}

async function flush() {
  clearTimeout(timer);
  if (sending || !pending.size) return;
  sending = true;
  try {
    let size = BATCH;
    while (pending.size) {
      const keys = [...pending.keys()].sort().slice(0, size);
      try {
        await sendClicks(keys.map((key) => pending.get(key)));
        keys.forEach(forget);
        [delay_s, size] = [1, BATCH];
      } catch (error) {
        const isFinal = error.status >= 400 && error.status < 500 && ![401, 408, 429].includes(error.status);
        if (!isFinal) throw error;
        if (keys.length > 1) { size = 1; continue; }  // one of them is refused: which?
        localStorage.setItem(refused + keys[0].slice(prefix.length), JSON.stringify(pending.get(keys[0])));
        forget(keys[0]);
        failed(`A click was refused and is kept in this browser: ${error.message}`);
      }
    }
  } catch {
    delay_s = Math.min(2 * delay_s, 30);
    timer = setTimeout(flush, 1000 * delay_s);
  } finally { sending = false; changed(); }
}

function forget(key) { pending.delete(key); localStorage.removeItem(key); }
