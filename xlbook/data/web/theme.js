// Light or dark: the reader's choice, else the system's. Runs before the page is drawn.
(function () {
  const root = document.documentElement;
  let chosen = null;
  try { chosen = localStorage.getItem("xlbook-theme"); } catch (refused) { chosen = null; }
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const set = (theme) => { root.dataset.theme = theme; };
  set(chosen || (dark.matches ? "dark" : "light"));
  dark.addEventListener("change", (event) => { if (!chosen) set(event.matches ? "dark" : "light"); });
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    button.addEventListener("click", () => {
      chosen = root.dataset.theme === "dark" ? "light" : "dark";
      set(chosen);
      try { localStorage.setItem("xlbook-theme", chosen); } catch (refused) { return; }
    });
  });
})();
