// What the reader has chosen, kept in the browser: theme, shortcuts, how the list is sorted and filtered.

const KEY = "speedloader-preferences";
const DEFAULTS = {
  theme: "auto",
  shortcuts: true,
  models: { sort: "heat", dir: -1, chip: "all", engine: "", q: "" },
};

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEY)) || {};
    return { ...DEFAULTS, ...kept, models: { ...DEFAULTS.models, ...kept.models } };
  } catch {
    return structuredClone(DEFAULTS);
  }
}

export const settings = read();
settings.save = () => {
  const { theme, shortcuts, models } = settings;
  try {
    localStorage.setItem(KEY, JSON.stringify({ theme, shortcuts, models }));
  } catch {
    // A browser that keeps nothing shows the page all the same.
  }
};
