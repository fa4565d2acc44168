// A small curve without axes.

/** Returns the curve of values as paths over 100 × 24. */
function paths(values: ArrayLike<number>): { line: string; area: string } {
  let most = 1;
  for (let i = 0; i < values.length; i++) most = Math.max(most, values[i] ?? 0);
  let line = "";
  for (let i = 0; i < values.length; i++) {
    const x = (100 * i) / Math.max(1, values.length - 1);
    const y = 23 - 21 * ((values[i] ?? 0) / most);
    line += `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
  }
  if (line === "") return { line: "M0 23L100 23", area: "" };
  return { line, area: `${line}L100 24L0 24Z` };
}

export function Spark({ values, label }: { values: ArrayLike<number>; label: string }) {
  const { line, area } = paths(values);
  return (
    <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" aria-label={label}>
      <path class="spark-area" d={area} />
      <path class="spark-line" d={line} />
    </svg>
  );
}
