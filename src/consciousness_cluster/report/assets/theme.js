// Set the chosen theme before anything is painted. Without a choice the reader's system decides.
(() => {
  let kept = null;
  try { kept = localStorage.getItem("consciousness-cluster-theme"); } catch { /* storage is closed to local files in some browsers */ }
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
})();
