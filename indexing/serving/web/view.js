// DOM elements made from plain values; text is never parsed as HTML.

import { player } from "/web/players.js";

export function el(tag, values = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name in node && name !== "list") node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// A button whose text is a sign is read out by its title.
export function button(text, title, onclick, values = {}) {
  const read = /\p{L}/u.test(text) ? {} : { "aria-label": title };
  return el("button", { type: "button", textContent: text, title, onclick, ...read, ...values });
}

export function describe(clip) {
  return Object.entries(clip.attributes || {}).map(([name, value]) => phrase(name, value)).filter(Boolean).join(", ");
}

export function phrase(name, value) {
  const plural = name.replaceAll("_", " ");
  const words = value === "1" ? plural.replace(/s$/, "") : plural;
  if (value === "yes") return words;
  if (value === "no") return "";
  if (/^\d/.test(value)) return `${value === "0" ? "no" : value} ${words}`;
  return name === "take_off" ? `${value} take-off` : value;
}

// An edit that asks for a value; "" where there are no words for it.
export function wish(name, value) {
  const text = phrase(name, value);
  if (!text) return "";
  if (name === "position") return value === "free" || value === "straight" ? `in a ${value} position` : `in ${value}`;
  if (name === "take_off") return `from ${/^[aeiou]/.test(value) ? "an" : "a"} ${text}`;
  return `with ${text}`;
}

export function seconds(clip) {
  if (clip.start_s === null || (clip.end_s === null && !clip.start_s)) return "";
  return clip.end_s === null ? `from ${clip.start_s.toFixed(2)} s` : `${clip.start_s.toFixed(2)}\u2013${clip.end_s.toFixed(2)} s`;
}

// `onSpan` gets start, end and length of the video once they are known.
export function clipPlayer(clip, onSpan) {
  return player(clip.media_url, { start_s: clip.start_s ?? 0, end_s: clip.end_s, poster: clip.poster_url, label: `${clip.clip_id}: ${describe(clip)}`, onSpan });
}

// Where in its video a span lies; nothing for a span that is nearly the whole video.
function place() {
  const bar = el("div", { className: "place", hidden: true, role: "img" });
  const show = (start, end, length) => {
    if (!(length > 0) || end - start > 0.95 * length) return;
    const mark = el("i");
    mark.style.left = `${(100 * start) / length}%`;
    mark.style.width = `${Math.max((100 * (end - start)) / length, 1)}%`;
    bar.replaceChildren(mark);
    bar.setAttribute("aria-label", `${start.toFixed(1)} to ${end.toFixed(1)} of ${length.toFixed(1)} s of the video`);
    bar.title = bar.getAttribute("aria-label");
    bar.hidden = false;
  };
  return [bar, show];
}

const MARKS = { "as asked": "\u2713", "not as asked": "\u2717", "changed though not asked": "!" };

function verdicts(hit) {
  const list = el("ul", { className: "changes" });
  const told = hit.predicted.filter((change) => change.verdict !== "kept");
  for (const change of told) {
    const name = change.name.replaceAll("_", "-");
    const text = change.is_change ? `${name} ${change.before || "none"} \u2192 ${change.after || "none"}` : `${name} ${change.after || "none"}`;
    const end = change.verdict === "as asked" ? "" : change.verdict === "not as asked" ? `, not ${change.asked || "none"}` : ", not asked";
    const title = `${change.verdict}; the encoder is ${(100 * change.probability).toFixed(0)} % sure of ${change.after || "none"}`;
    list.append(el("li", { className: change.verdict === "as asked" ? "asked" : "unasked", title }, el("b", { "aria-hidden": "true", textContent: MARKS[change.verdict] }), `${text}${end}`, el("span", { className: "hidden", textContent: `: ${change.verdict}` })));
  }
  const kept = hit.predicted.filter((change) => change.verdict === "kept").map((change) => change.name.replaceAll("_", "-"));
  if (kept.length) list.append(el("li", { textContent: told.length ? `kept: ${kept.join(", ")}` : "everything kept" }));
  return list;
}

function shares(hit) {
  const total = Math.max(Math.abs(hit.from_clip) + Math.abs(hit.from_edit), 1);
  const text = `of the score ${hit.score.toFixed(3)}: ${hit.from_clip.toFixed(2)} from the clip, ${hit.from_edit.toFixed(2)} from the edit`;
  const bar = el("div", { className: "bar", role: "img", "aria-label": text, title: text });
  for (const [tag, value] of [["i", hit.from_clip], ["b", hit.from_edit]]) {
    const piece = el(tag);
    piece.style.width = `${(100 * Math.max(value, 0)) / total}%`;
    bar.append(piece);
  }
  return bar;
}

export function hitCard(hit, rank, { thumbs, isKept, on }) {
  const [bar, showPlace] = place();
  const name = hit.label || hit.clip_id;
  const thumb = (sign, text, title) => button(text, `${title}: ${hit.clip_id}`, () => on.thumb(hit, sign), { "aria-pressed": String(thumbs.get(hit.clip_id) === sign), "data-key": title });
  const more = hit.num_grouped ? `, and ${hit.num_grouped} like it` : "";
  const about = [describe(hit), seconds(hit)].filter(Boolean).join(" \u00b7 ");
  return el("article", { className: "hit", tabIndex: 0, "aria-label": `answer ${rank}: ${name}`, "data-clip": hit.clip_id },
    el("div", { className: "player" }, clipPlayer(hit, showPlace)), bar,
    el("h2", {}, `${rank}. ${name}`, el("span", hit.probability === null ? { textContent: hit.score.toFixed(3), title: "score" } : { textContent: `${(100 * hit.probability).toFixed(0)} %`, title: `how likely this is what you asked for; score ${hit.score.toFixed(3)}` })),
    shares(hit), verdicts(hit),
    el("p", { className: "quiet", textContent: about + more }),
    el("div", { className: "row" },
      button("edit this", "search from this clip", () => on.chain(hit), { "data-key": "edit" }),
      thumb(1, "+", "more like this"), thumb(-1, "\u2212", "less like this"),
      button(isKept ? "\u2605" : "\u2606", isKept ? "take out of the basket" : "put into the basket", () => on.keep(hit), { "aria-pressed": String(isKept), "data-key": "keep" }),
      el("a", { className: "button", href: hit.trimmed_url, download: `${hit.clip_id.replaceAll("/", "_")}.mp4`, textContent: "save", title: "download this span as MP4" })));
}

export function skeletons(number) {
  return Array.from({ length: number }, () => el("article", { className: "hit skeleton", "aria-hidden": "true" }, el("div", { className: "player" }), el("p"), el("p")));
}

export function posterButton(clip, onclick) {
  return el("button", { type: "button", className: "poster", onclick, title: `${clip.clip_id}: ${describe(clip)}` },
    el("img", { src: clip.poster_url, alt: "", loading: "lazy" }), el("b", { textContent: clip.label || clip.clip_id }), el("span", { textContent: describe(clip) || seconds(clip) || clip.clip_id }));
}

// What the encoder reads of the query clip. A value can be corrected by hand; one in doubt is marked.
export function readingChips(reading, values, on) {
  return reading.filter((read) => read.is_factor).map((read) => {
    const known = [...new Set([read.value, ...(values[read.name] || [])])];
    const select = el("select", { name: read.name, "aria-label": `${read.name} of the query clip`, onchange: () => on.correct(read.name, select.value) },
      ...known.map((value) => el("option", { value, textContent: value || "none", selected: value === read.value })));
    const doubt = read.is_given ? "corrected" : read.is_doubtful ? `in doubt (${(100 * read.probability).toFixed(0)} %): correct it if it is wrong` : "";
    return el("label", { className: read.is_doubtful ? "doubtful" : "" }, `${read.name.replaceAll("_", "-")} `, select, doubt ? el("span", { className: "quiet", textContent: ` ${doubt}` }) : "");
  });
}

export function qualityPanel(quality, collection) {
  const value = (number, unit) => (number === null || number === undefined ? "\u2013" : `${number}${unit}`);
  const recall = quality.recall_at_k === null ? null : (100 * quality.recall_at_k).toFixed(1);
  const rows = [["p50", value(quality.p50_ms, " ms")], ["p95", value(quality.p95_ms, " ms")], ["p99", value(quality.p99_ms, " ms")],
    ["queries per second", value(quality.qps, "")], [`recall against exact, ${quality.num_sampled} sampled`, value(recall, " %")], ["search", collection.is_exact ? "exact" : "approximate"]];
  if (collection.abstain) rows.push(["of the answers that match are right", `${(100 * collection.abstain.precision).toFixed(0)} %`]);
  return rows.map(([name, text]) => el("dl", {}, el("dt", { textContent: name }), el("dd", { textContent: text })));
}
