"use strict";
// Tables that are sorted by a click on the head of a column: by the number that each cell begins with, else as text.
for (const table of document.querySelectorAll("table.board")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];

  const key = (row, column) => {
    const text = row.cells[column].textContent;
    const number = parseFloat(text.replaceAll(",", ""));
    return Number.isNaN(number) ? text : number;
  };

  // Numbers stand before text in both directions, so that a cell without a number never comes first.
  const compare = (one, other) => {
    if (typeof one !== typeof other) return null;
    return typeof one === "number" ? one - other : one.localeCompare(other);
  };

  const sort = (column) => {
    const sign = heads[column].getAttribute("aria-sort") === "descending" ? 1 : -1;
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort(([one], [other]) => {
      const order = compare(one, other);
      return order === null ? (typeof one === "number" ? -1 : 1) : sign * order;
    });
    body.append(...rows.map(([, row]) => row));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.replaceChildren(button);
  });
}
