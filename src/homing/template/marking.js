"use strict";
const WORDS = {
  en: {
    other: "中文",
    title: "Which of these negatives are in fact relevant?",
    lead: (n, of, side) => `${n} negatives of the ${side} split, the likeliest first, out of ${of}. Each stands beside a document that is known to be relevant to the same query. Read the query, then the text to be judged, and mark it. You need not finish: what you don't mark stays as it is.`,
    relevant: ["Relevant", "By itself it gives what the query asks for, as well as the known one does. It becomes a positive."],
    not: ["Not relevant", "It is about the subject perhaps, but does not give what is asked for. It stays a negative, from now on a judged one."],
    unsure: ["Unsure", "It cannot be told, or only in part. It is left out of the negatives and of the positives."],
    keys: "Keys: 1, 0 and U mark; J and K go to the next and the previous; the same mark again takes it back.",
    who: "Your name, kept with your marks",
    load: "Load saved marks",
    save: "Save",
    count: (n, of) => `<b>${n}</b> of ${of} marked`,
    filters: { all: "All", open: "Not marked yet", relevant: "Relevant", not: "Not relevant", unsure: "Unsure", near: "Near-duplicates" },
    query: "Query", positive: "Known to be relevant", negative: "To be judged",
    judged: "judged not relevant", mined: "found, nobody judged it", near: ["", "near-duplicate of the known one", "same words as the known one"],
    score: (model, one, other) => `${model}: ${one} ${one > other ? "above" : "against"} ${other}`,
    more: "all of it", less: "less", empty: "Nothing here under this filter.",
    saved: (n, file) => `${n} judgments saved as ${file}. Then: homing mine … --judgments ${file} (or homing run … --judgments).`,
    loaded: (n, other) => `${n} marks loaded${other ? `; ${other} are about other texts and were left aside` : ""}.`,
    bad: "That file holds no judgments.", kept: "This browser does not let the page keep marks: save before you close it.",
  },
  zh: {
    other: "English",
    title: "这些负例中，哪些其实是相关的？",
    lead: (n, of, side) => `从${SIDES[side] || side}的 ${of} 个负例中选出 ${n} 个，越可疑的越靠前。每一个旁边都有一篇已知与同一查询相关的文档。请先看查询，再看待判断的文本，然后标注。不必全部标完：没有标注的保持原样。`,
    relevant: ["相关", "它本身就能满足查询的需求，不比已知的那篇差。它将成为正例。"],
    not: ["不相关", "也许主题相同，但没有给出所问的内容。它仍是负例，并记为经人判断的负例。"],
    unsure: ["不确定", "无法判断，或只满足一部分。它既不作负例，也不作正例。"],
    keys: "按键：1、0、U 标注；J、K 跳到下一条、上一条；再按一次同样的标注即取消。",
    who: "您的姓名（随标注保存）",
    load: "载入已保存的标注",
    save: "保存",
    count: (n, of) => `已标注 <b>${n}</b> / ${of}`,
    filters: { all: "全部", open: "尚未标注", relevant: "相关", not: "不相关", unsure: "不确定", near: "近似重复" },
    query: "查询", positive: "已知相关", negative: "待判断",
    judged: "原判为不相关", mined: "检索所得，无人判断", near: ["", "与已知文档近似重复", "与已知文档文字相同"],
    score: (model, one, other) => `${model}：${one} ${one > other ? "高于" : "对"} ${other}`,
    more: "显示全文", less: "收起", empty: "此筛选条件下没有内容。",
    saved: (n, file) => `已将 ${n} 条判断保存为 ${file}。接下来：homing mine … --judgments ${file}（或 homing run … --judgments）。`,
    loaded: (n, other) => `已载入 ${n} 条标注${other ? `；另有 ${other} 条针对其他文本，未采用` : ""}。`,
    bad: "该文件中没有判断。", kept: "此浏览器不允许页面保留标注：关闭前请先保存。",
  },
};
const SIDES = { train: "训练集", dev: "开发集", test: "测试集" };
const MARKS = ["relevant", "not", "unsure"], KEYS = { 1: "relevant", 0: "not", u: "unsure" };
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const place = `homing-audit-${data.audit}`;
const pair = (item) => `${item.query_digest} ${item.document_digest}`;

/* What is kept: marks by pair, {mark, date}; the judge's name and the language. */
let keeps = true;
function recall(key, otherwise) {
  try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; }
}
function keep(key, value) {
  try { localStorage.setItem(key, JSON.stringify(value)); } catch { keeps = false; tell(words().kept); }
}
const marks = new Map(recall(place, []));
let judge = recall("homing-judge", "");
let language = recall("homing-language", (navigator.language || "en").startsWith("zh") ? "zh" : "en");
let filter = "all", here = 0;
const words = () => WORDS[language];

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
function tell(text) {
  $("told").textContent = text;
  $("told").hidden = false;
}

/* The words of near-duplicates that the other one doesn't have. */
function marked(text, other) {
  const split = (said) => said.split(/([\p{Script=Han}]|[^\s\p{Script=Han}]+)/u), known = new Set(split(other));
  return split(text).map((part) => (part.trim() && !known.has(part) ? element("mark", "", part) : part));
}
function side(kind, title, text, other) {
  const made = element("div", `side ${kind}`);
  made.append(element("h3", "", title));
  const body = element("div", "text");
  body.append(...(other === undefined ? [text] : marked(text, other)));
  body.dir = "auto";
  made.append(body);
  if (text.length > 420 || text.split("\n").length > 9) {
    body.classList.add("cut");
    const more = element("button", "link more", words().more);
    more.onclick = () => { more.textContent = body.classList.toggle("cut") ? words().more : words().less; };
    made.append(more);
  }
  return made;
}
function card(item, number) {
  const w = words(), made = element("li", "card"), head = element("header"), query = element("h2", "", item.query);
  made.id = `item-${number}`;
  query.dir = "auto";
  head.append(element("span", "number", number + 1), query);
  const sides = element("div", "sides"), why = element("p", "why"), choices = element("div", "choices");
  sides.append(
    side("positive", w.positive, item.positive, item.near ? item.negative : undefined),
    side("negative", w.negative, item.negative, item.near ? item.positive : undefined),
  );
  if (item.near) why.append(element("span", "loud", w.near[item.near]));
  why.append(element("span", "", item.judged ? w.judged : w.mined));
  item.scores.forEach(([one, other], m) => {
    why.append(element("span", one > other ? "loud" : "", w.score(data.models[m], one.toFixed(3), other.toFixed(3))));
  });
  for (const [key, mark] of [["1", "relevant"], ["0", "not"], ["U", "unsure"]]) {
    const button = element("button", mark);
    button.append(element("kbd", "", key), element("span", "", w[mark][0]));
    button.onclick = () => { go(number, false); set(number, mark); };
    choices.append(button);
  }
  made.append(head, sides, why, choices);
  return made;
}
const shown = (number) => {
  const item = data.items[number], mark = marks.get(pair(item))?.mark;
  return filter === "all" || (filter === "open" ? !mark : filter === "near" ? item.near > 0 : mark === filter);
};
function show(number) {
  const at = $(`item-${number}`), mark = marks.get(pair(data.items[number]))?.mark;
  if (mark) at.dataset.mark = mark; else delete at.dataset.mark;
  at.classList.toggle("here", number === here);
  for (const button of at.querySelectorAll(".choices button")) button.setAttribute("aria-pressed", button.classList.contains(mark));
}
function count() {
  const held = data.items.map((item) => marks.get(pair(item))?.mark), w = words();
  $("count").innerHTML = w.count(held.filter(Boolean).length, data.items.length);
  for (const mark of MARKS) {
    document.querySelector(`.track .${mark}`).style.width = `${(100 * held.filter((each) => each === mark).length) / Math.max(1, held.length)}%`;
  }
  $("save").disabled = !held.some(Boolean);
}
function draw() {
  const w = words();
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = `Homing: ${w.title}`;
  for (const name of ["title", "keys", "who", "load", "save", "empty"]) $(name).textContent = w[name];
  $("language").textContent = w.other;
  $("lead").textContent = w.lead(data.items.length.toLocaleString(), data.of.toLocaleString(), data.side);
  $("marks").replaceChildren(...[["1", "relevant"], ["0", "not"], ["U", "unsure"]].map(([key, mark]) => {
    const made = element("li", mark), said = element("span");
    said.append(element("b", "", w[mark][0]), ` ${w[mark][1]}`);
    const held = element("span");
    held.append(element("kbd", "", key));
    made.append(held, said);
    return made;
  }));
  $("filter").replaceChildren(...Object.entries(w.filters).map(([value, text]) => new Option(text, value, false, value === filter)));
  $("filter").setAttribute("aria-label", language === "zh" ? "筛选" : "Filter");
  $("list").replaceChildren(...data.items.map(card));
  refresh();
}
function refresh() {
  let any = false;
  data.items.forEach((_, number) => {
    show(number);
    $(`item-${number}`).hidden = !shown(number);
    any = any || shown(number);
  });
  $("empty").hidden = any;
  count();
}
function go(number, scroll = true) {
  const before = here;
  here = number;
  show(before);
  show(here);
  if (scroll) $(`item-${here}`).scrollIntoView({ block: "nearest" });
}
function step(by) {
  for (let number = here + by; number >= 0 && number < data.items.length; number += by) {
    if (!$(`item-${number}`).hidden) return go(number);
  }
}
function set(number, mark) {
  const key = pair(data.items[number]), again = marks.get(key)?.mark === mark;
  if (again) marks.delete(key); else marks.set(key, { mark, date: new Date().toISOString() });
  keep(place, [...marks]);
  show(number);
  count();
  return !again;
}
function judgments() {
  return data.items.filter((item) => marks.has(pair(item))).map((item) => {
    const { mark, date } = marks.get(pair(item));
    const { query_id, document_id, query_digest, document_digest } = item;
    return { query_id, document_id, mark, query_digest, document_digest, ...(judge && { judge }), kind: "person", date, split: data.side };
  });
}
function save() {
  const made = judgments(), link = element("a");
  const name = judge.trim().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");
  link.download = `judgments${name && `-${name}`}.jsonl`;
  link.href = URL.createObjectURL(new Blob(made.map((each) => JSON.stringify(each) + "\n"), { type: "application/jsonl" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  tell(words().saved(made.length, link.download));
}
async function load(file) {
  const known = new Set(data.items.map(pair));
  let taken = 0, other = 0;
  try {
    for (const line of (await file.text()).split("\n").filter((each) => each.trim())) {
      const said = JSON.parse(line);
      if (!MARKS.includes(said.mark) || !known.has(pair(said))) { other += 1; continue; }
      marks.set(pair(said), { mark: said.mark, date: said.date || new Date().toISOString() });
      taken += 1;
    }
  } catch { return tell(words().bad); }
  keep(place, [...marks]);
  refresh();
  tell(words().loaded(taken, other));
}

$("language").onclick = () => { language = language === "zh" ? "en" : "zh"; keep("homing-language", language); draw(); };
$("filter").onchange = (event) => { filter = event.target.value; refresh(); event.target.blur(); };
$("judge").value = judge;
$("judge").oninput = (event) => { judge = event.target.value; keep("homing-judge", judge); };
$("save").onclick = save;
$("file").onchange = (event) => { if (event.target.files[0]) load(event.target.files[0]); event.target.value = ""; };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const key = event.key.toLowerCase();
  if (key in KEYS && !$(`item-${here}`)?.hidden && data.items.length) {
    if (set(here, KEYS[key])) step(1); else show(here);
  } else if (key === "j") step(1);
  else if (key === "k") step(-1);
  else return;
  event.preventDefault();
});
draw();
