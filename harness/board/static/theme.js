// Light or dark as in the system, until the button is pressed.
const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = (on) => document.documentElement.classList.toggle("dark", on);
paint(dark.matches);
dark.addEventListener("change", (event) => paint(event.matches));
addEventListener("DOMContentLoaded", () => {
  document.getElementById("theme").addEventListener("click", () => paint(!document.documentElement.classList.contains("dark")));
});
