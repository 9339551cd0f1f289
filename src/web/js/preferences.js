// What the reader has chosen, kept in the browser: theme, shortcuts, how the list is sorted and filtered.

const KEY = "speedloader-preferences";
const DEFAULTS = {
  theme: "auto",
  shortcuts: true,
  models: { sort: "heat", dir: -1, chip: "all", engine: "", q: "" },
};

/** What was kept, where it is of the kind that is wanted: it may be of another version, or anybody's. */
const taken = (kept, wanted) => Object.fromEntries(Object.entries(wanted).map(([name, value]) => {
  const found = kept?.[name];
  if (typeof value === "object") return [name, taken(found, value)];
  return [name, typeof found === typeof value ? found : value];
}));

function read() {
  try {
    return taken(JSON.parse(localStorage.getItem(KEY)), DEFAULTS);
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
