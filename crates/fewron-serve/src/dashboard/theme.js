// Theme: the system's until the reader chooses; remembered where the browser allows it, as by the reports.
import { byId } from "./dom.js";

const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;

function setTheme(theme) {
  if (theme) root.dataset.theme = theme;
  byId("theme").setAttribute("aria-pressed", isDark());
}

function storedTheme(value) {
  try {
    if (value) localStorage.setItem("fewron-theme", value);
    const theme = localStorage.getItem("fewron-theme");
    return theme === "dark" || theme === "light" ? theme : undefined;
  } catch {
    return undefined;
  }
}

export function startTheme() {
  byId("theme").addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    storedTheme(theme);
    setTheme(theme);
  });
  systemDark.addEventListener("change", () => setTheme());
  setTheme(storedTheme());
}
