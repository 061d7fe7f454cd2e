// How a variant stands with its quality budget.
export const hasLimit = ({ min_agreement, max_kl }) => min_agreement > 0 || max_kl !== null;
export const agreementBeyond = ({ agreement, min_agreement }) => agreement.mean < min_agreement;
export const divergenceBeyond = ({ kl, max_kl }) => max_kl !== null && kl.mean > max_kl;

// `dense`, `fallen`, `unscored`, `beyond`, `keeps`, or `watched` without a limit.
export function verdict({ policy, fallen_back, quality }) {
  if (policy === null) return "dense";
  if (fallen_back) return "fallen";
  if (!quality?.tokens) return "unscored";
  if (agreementBeyond(quality) || divergenceBeyond(quality)) return "beyond";
  return hasLimit(quality) ? "keeps" : "watched";
}

export const verdictWords = {
  dense: "served",
  fallen: "fallen back to dense",
  unscored: "not scored yet",
  beyond: "beyond its budget",
  keeps: "keeps its budget",
  watched: "watched, no limit",
};

// Colours by place: dense is `d`, the others count from 0.
export function slotsOf(variants) {
  let next = 0;
  return new Map(variants.map(({ name, policy }) => [name, policy === null ? "d" : next++ % 9]));
}

// `plan`, `plan and gate@0.5`, `plan, gate@0.5 and input`.
export function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
