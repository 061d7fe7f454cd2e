// Numbers as people read them.
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const NONE = "–";
export const count = (value) => whole.format(value);
export const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
export const percent = (share, digits = 1) => `${(share * 100).toFixed(digits)}%`;
// `25%`, `12.5%`.
export const shortPercent = (share) => `${Number((share * 100).toFixed(1))}%`;

// Per second, three digits.
export function rate(value) {
  if (value >= 100) return count(value);
  return value === 0 ? "0" : value.toFixed(value >= 10 ? 1 : 2);
}

export function duration(ms) {
  if (ms < 100) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s` : span(ms / 1000);
}

// The two largest units of a time: `3 h 12 min`.
export function span(seconds) {
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  let rest = Math.max(0, Math.floor(seconds));
  const first = units.findIndex(([, size]) => rest >= size);
  if (first < 0) return "0 s";
  const parts = units.slice(first, first + 2).map(([unit, size]) => {
    const part = Math.floor(rest / size);
    rest -= part * size;
    return part ? `${part} ${unit}` : "";
  });
  return parts.filter(Boolean).join(" ");
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  const size = value / 1024 ** unit;
  return `${unit === 0 || size >= 100 ? size.toFixed(0) : size.toFixed(1)} ${units[unit]}`;
}

export const divergence = (value) => value < 0.1 ? value.toFixed(4) : value.toFixed(3);
// `[low, high]`; nothing for an interval without ends, as of one answer alone.
export const interval = ({ low, high }, format) => low === null || high === null ? "" : `[${format(low)}, ${format(high)}]`;
export const clock = (time_s) => new Date(time_s * 1000).toLocaleTimeString("en-GB");
