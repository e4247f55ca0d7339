const page = document.documentElement;
for (const radio of document.querySelectorAll('input[name="language"]')) {
  radio.addEventListener("change", () => {
    page.lang = radio.value;
    document.title = page.getAttribute("data-" + radio.id);
  });
}
const search = document.querySelector("#search");
if (search) {
  const entries = [...document.querySelectorAll("#queries .mover")].map((entry) => [entry, entry.textContent.toLowerCase()]);
  const openAtFirst = new Set(entries.filter(([entry]) => entry.open).map(([entry]) => entry));
  search.closest(".search").hidden = false;
  search.addEventListener("input", () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const [entry, text] of entries) {
      const found = words.every((word) => text.includes(word));
      entry.hidden = !found;
      shown += found;
      entry.open = words.length ? found && shown <= 3 : openAtFirst.has(entry);
    }
    for (const output of document.querySelectorAll(".shown")) output.textContent = String(shown);
  });
}
