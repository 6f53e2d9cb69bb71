// The two sheets between query and answers: browsing the archive, and the basket. The basket stays in this browser.

import { clipOf, cutList, get } from "/web/api.js";
import { button, el, posterButton, seconds } from "/web/view.js";

const $ = (id) => document.getElementById(id);
const MOST_LABELS = 40;
const PAGE = 24;
const FORMATS = { edl: "EDL (most programs)", otio: "OpenTimelineIO", fcpxml: "Final Cut Pro", xml: "Premiere", llc: "LosslessCut", vtt: "WebVTT", json: "OSL JSON (SoccerNet)" };

export function toggleSheet(name, isOpen = $(name).hidden) {
  $(name).hidden = !isOpen;
  $(`${name}-button`).setAttribute("aria-expanded", String(isOpen));
  if (isOpen) $(name).scrollIntoView({ block: "nearest" });
}

// --- Browsing

let seed = 0, waiting = 0, turn = 0;

export function setUpBrowse(collection, { choose, fail }) {
  const counts = Object.entries(collection.labels);
  const show = async () => {
    const text = $("label").value.trim(), own = ++turn;
    for (const chip of $("labels").children) chip.setAttribute("aria-pressed", String(chip.value === text));
    $("found").setAttribute("aria-busy", "true");
    try {
      const clips = await get(`/v1/clips?limit=${PAGE}&seed=${seed}&label=${encodeURIComponent(text)}`);
      if (own !== turn) return;
      const nothing = el("p", { textContent: `No clip has \u201c${text}\u201d in its label or id.` });
      const pick = async (clip) => { try { toggleSheet("browse", false); choose(await clipOf(clip.clip_id)); } catch (error) { fail(error); } };
      $("found").replaceChildren(...(clips.length ? clips.map((clip) => posterButton(clip, () => pick(clip))) : [nothing]));
      $("found-more").hidden = clips.length < PAGE;
    } catch (error) { fail(error); } finally { $("found").removeAttribute("aria-busy"); }
  };
  const chips = counts.slice(0, MOST_LABELS).map(([label, number]) => el("button", { type: "button", value: label, textContent: `${label} (${number})`, onclick: () => { $("label").value = $("label").value === label ? "" : label; seed = 0; show(); } }));
  if (counts.length > MOST_LABELS) chips.push(el("span", { className: "quiet", textContent: `and ${(counts.length - MOST_LABELS).toLocaleString("en")} more: type to find them` }));
  $("labels").replaceChildren(...chips);
  $("label").addEventListener("input", () => { clearTimeout(waiting); seed = 0; waiting = setTimeout(show, 200); });
  $("found-more").addEventListener("click", () => { seed += 1; show(); });
  $("browse-close").addEventListener("click", () => { toggleSheet("browse", false); $("pick").focus(); });
  return (isOpen = $("browse").hidden) => { toggleSheet("browse", isOpen); if (isOpen) { show(); $("label").focus(); } };
}

let shownClip = null;

// Marks of all clips of the query clip's video, when there are several.
export async function showTimeline(clip, choose) {
  const bar = $("timeline");
  bar.hidden = true;
  shownClip = clip;
  if (!clip) return;
  const clips = (await get(`/v1/clip/video?id=${encodeURIComponent(clip.clip_id)}`)).filter((one) => one.start_s !== null);
  if (clips.length < 2 || shownClip !== clip) return;
  const length = Math.max(...clips.map((one) => one.end_s ?? one.start_s + 1));
  bar.replaceChildren(...clips.map((one) => {
    const mark = button("", `${one.label || one.clip_id}, ${seconds(one)}`, () => choose(one), { "aria-pressed": String(one.clip_id === clip.clip_id) });
    mark.style.left = `${(100 * one.start_s) / length}%`;
    mark.style.width = `${Math.max((100 * ((one.end_s ?? length) - one.start_s)) / length, 0.6)}%`;
    return mark;
  }));
  bar.hidden = false;
}

// --- Basket

const KEPT = "tfcovr_basket";
let basket = [];

export const isKept = (clip) => basket.some((one) => one.clip_id === clip.clip_id);

export function setUpBasket(collection, { choose, fail, say }) {
  const name = `${KEPT}:${collection.name}`;
  try { basket = JSON.parse(localStorage.getItem(name) || "[]").filter((one) => typeof one.clip_id === "string"); } catch { basket = []; }
  const draw = () => {
    localStorage.setItem(name, JSON.stringify(basket));
    $("basket-button").textContent = basket.length ? `basket (${basket.length})` : "basket";
    if (!basket.length) return $("basket").replaceChildren(el("p", { className: "quiet", textContent: "The basket is empty. \u2606 on an answer puts it here; then save all of them as a list of cuts for your editing program." }));
    const format = el("select", { "aria-label": "format of the list" }, ...Object.entries(FORMATS).map(([value, text]) => el("option", { value, textContent: text })));
    const save = async () => {
      try {
        const url = URL.createObjectURL(await cutList(basket.map((one) => one.clip_id), format.value));
        el("a", { href: url, download: `tfcovr.${format.value}` }).click();
        say(`${basket.length} spans saved as tfcovr.${format.value}; it names the videos by their file names.`);
      } catch (error) { fail(error); }
    };
    $("basket").replaceChildren(
      el("div", { className: "row" }, format, button("save list of cuts", "save all spans as a file for an editing program", save, { className: "main" }), button("empty", "empty the basket", () => { basket = []; draw(); })),
      el("div", { className: "posters" }, ...basket.map((one) => el("div", { className: "kept" }, posterButton(one, () => choose(one)), button("\u00d7", `take ${one.label || one.clip_id} out of the basket`, () => keep(one))))));
  };
  const keep = (clip) => {
    if (isKept(clip)) basket = basket.filter((one) => one.clip_id !== clip.clip_id);
    else basket.push(Object.fromEntries(["clip_id", "label", "start_s", "end_s", "attributes", "media_url", "poster_url"].map((key) => [key, clip[key]])));
    draw();
    return isKept(clip);
  };
  draw();
  return keep;
}
