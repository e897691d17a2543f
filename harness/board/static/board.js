// DataTables sorts, filters and fits narrow screens; this script connects the verdict chips to it.
for (const section of document.querySelectorAll("section.board")) {
  const table = new DataTable(section.querySelector("table.display"), {
    paging: false, order: [], responsive: true, autoWidth: false,
    language: { search: "filter", info: "_TOTAL_ rows", infoFiltered: "of _MAX_", zeroRecords: "no row matches: clear the filter" },
  });
  const chosen = new Set();
  table.search.fixed("verdicts", (text, data, index) => {
    const verdicts = table.row(index).node().dataset.verdicts.split(" ");
    return !chosen.size || verdicts.some((verdict) => chosen.has(verdict));
  });
  for (const chip of section.querySelectorAll("button[data-verdict]")) {
    chip.addEventListener("click", () => {
      const on = chip.getAttribute("aria-pressed") !== "true";
      chip.setAttribute("aria-pressed", on);
      chosen[on ? "add" : "delete"](chip.dataset.verdict);
      table.draw();
    });
  }
}
