"use strict";
// Sort by a click on a heading, filter by text or by level. Without this file every table is
// complete and readable.
for (const table of document.querySelectorAll("table[data-sort]")) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[table.tHead.rows.length - 1].cells);
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    while (head.firstChild) button.append(head.firstChild);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        const data = cell.querySelector("data");
        if (!data) return cell.textContent.trim().toLowerCase();
        return data.value === "" ? -Infinity : Number(data.value);
      };
      const sign = down ? -1 : 1;
      Array.from(body.rows)
        .map((row) => [key(row), row])
        .sort(([a], [b]) => (a < b ? -sign : a > b ? sign : 0))
        .forEach(([, row]) => body.append(row));
    });
  });
}
for (const table of document.querySelectorAll("table[data-filter]")) {
  const rows = Array.from(table.tBodies[0].rows);
  const bar = document.createElement("div");
  bar.className = "filter";
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "Filter rows";
  input.setAttribute("aria-label", "Filter rows of " + table.caption.textContent.trim());
  const levels = Array.from(new Set(rows.map((row) => row.dataset.level).filter(Boolean)));
  let level = "";
  const show = () => {
    const wanted = input.value.trim().toLowerCase();
    for (const row of rows) {
      row.hidden =
        (level !== "" && row.dataset.level !== level) ||
        !row.textContent.toLowerCase().includes(wanted);
    }
  };
  for (const name of levels.length > 1 ? ["", ...levels] : []) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name === "" ? "All levels" : name;
    button.setAttribute("aria-pressed", String(name === ""));
    button.addEventListener("click", () => {
      level = name;
      for (const other of bar.querySelectorAll("button")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      show();
    });
    bar.append(button);
  }
  input.addEventListener("input", show);
  bar.append(input);
  table.parentElement.before(bar);
}
