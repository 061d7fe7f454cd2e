// Statuses as the server tells them, of a server that never was.
const MIB = 2 ** 20;
const NOTHING = { p50: 0, p90: 0, p99: 0, count: 0 };
const UNKNOWN = { mean: 0, low: 0, high: 0 };

const percentiles = (p50, count = 400) => ({ p50, p90: p50 * 1.6, p99: p50 * 3.1, count });
// A number that looks measured and is the same every time.
const wobble = (seed) => Math.sin(seed * 12.9898) * 0.5 + Math.sin(seed * 0.37) * 0.5;

const LAYERS = 30;

function variant(name, policy, sparsity, speed, seed, more = {}) {
  const active_by_layer = Array.from({ length: LAYERS }, (_, layer) =>
    policy ? Math.max(0.02, Math.min(1, 1 - sparsity + 0.22 * wobble(seed + layer * 0.7) + (layer < 2 ? 0.25 : 0))) : 1);
  return {
    name, policy, sparsity, share: 0, fallen_back: false, requests: 120 - seed * 11, answer_tokens: 9000 - seed * 870,
    stream_tok_s: speed,
    latency: { first_token_ms: percentiles(310 + seed * 7), inter_token_ms: percentiles(1000 / speed), request_ms: percentiles(90_000 / speed) },
    active: active_by_layer.reduce((sum, one) => sum + one) / LAYERS, active_by_layer, quality: null, ...more,
  };
}

function guard(mean, kl, more = {}) {
  return {
    tokens: 1204, answers: 31, waiting_tokens: 220,
    agreement: { mean, low: mean - 0.014, high: Math.min(1, mean + 0.013) }, kl: { mean: kl, low: kl * 0.7, high: kl * 1.35 },
    min_agreement: 0.95, max_kl: 0.1, ...more,
  };
}

function variants(fallen) {
  const gate = guard(fallen ? 0.921 : 0.957, fallen ? 0.142 : 0.071);
  return [
    variant("dense", null, 0, 58.4, 0, { share: 0.2 }),
    variant("plan", "gate", 0.5, 81.7, 1, { share: 0.5, quality: guard(0.981, 0.021) }),
    variant("gate@0.7", "gate", 0.7, 93.2, 2, { share: 0.3, quality: gate, fallen_back: fallen }),
    variant("customer-support-answers-of-the-second-quarter", "predict", 0.6, 88.1, 3, { quality: guard(0.967, 0.048, { max_kl: null, waiting_tokens: 0 }) }),
    variant("prompt@0.5", "prompt", 0.5, 77, 4, { quality: guard(0, 0, { tokens: 0, answers: 0, agreement: UNKNOWN, kl: UNKNOWN }) }),
    variant("magnitude@0.8", "magnitude", 0.8, 55.9, 5, { quality: guard(0.943, 0.088, { min_agreement: 0, max_kl: null }) }),
  ];
}

function requests() {
  const states = ["waiting", "reading", "writing", "writing", "finished", "finished", "cancelled", "failed"];
  const names = ["plan", "gate@0.7", "dense", "customer-support-answers-of-the-second-quarter"];
  return Array.from({ length: 50 }, (_, at) => {
    const state = at < states.length ? states[at] : "finished";
    const begun = !["waiting", "reading"].includes(state);
    return {
      id: 4711 - at, variant: names[at % names.length], state, age_s: 0.4 + at * 3.7, prompt_tokens: 24 + at * 13,
      reused_tokens: at % 3 ? 0 : 16, answer_tokens: begun ? 12 + at * 5 : 0,
      first_token_ms: begun ? 300 + at * 4.4 : null, tok_s: begun ? 61.3 + at % 9 : null,
    };
  });
}

function log(time_s, fallen) {
  const lines = [
    { time_s: time_s - 310, level: "warning", text: "4 requests were refused: 256 were waiting" },
    { time_s: time_s - 4000, level: "info", text: "the plan of gate@0.7 was made in 3.1 s <b>not bold</b>" },
  ];
  if (!fallen) return lines;
  return [{ time_s: time_s - 42, level: "warning", text: "gate@0.7 fell back to dense: agreement 92.1% [90.7, 93.4] is below 95%" }, ...lines];
}

// The status of a busy server at `time_s`, in its `tick`th second.
export function busy(time_s, tick, fallen = false) {
  const running = 3 + tick % 3;
  return {
    model: "smollm2-135m-instruct", time_s, uptime_s: 11_520 + tick, threads: 2, layers: LAYERS, context: 2048,
    load: { running, waiting: tick % 2, max_running: 8, max_waiting: 256, draining: false },
    totals: { requests: 4711 + tick, finished: 4655 + tick, cancelled: 21, failed: 3, refused: 32, prompt_tokens: 812_344 + tick * 31, reused_tokens: 301_222, answer_tokens: 390_121 + tick * 140 },
    decode_tok_s: 142 + 22 * wobble(tick), prefill_tok_s: 310 + 140 * wobble(tick * 1.7 + 4),
    latency: { first_token_ms: percentiles(322, 1000), inter_token_ms: percentiles(14.1, 4096), request_ms: percentiles(2410, 1000) },
    memory: { resident_bytes: 412 * MIB, weights_bytes: 105 * MIB, kv_running_bytes: (60 + running * 9) * MIB, kv_prefix_bytes: 31 * MIB, kv_limit_bytes: 256 * MIB },
    variants: variants(fallen), requests: requests(), log: log(time_s, fallen),
  };
}

// The status of a server that has just started.
export function empty(time_s, tick) {
  const latency = { first_token_ms: NOTHING, inter_token_ms: NOTHING, request_ms: NOTHING };
  return {
    ...busy(time_s, tick), uptime_s: tick,
    load: { running: 0, waiting: 0, max_running: 8, max_waiting: 256, draining: false },
    totals: { requests: 0, finished: 0, cancelled: 0, failed: 0, refused: 0, prompt_tokens: 0, reused_tokens: 0, answer_tokens: 0 },
    decode_tok_s: 0, prefill_tok_s: 0, latency,
    memory: { resident_bytes: 0, weights_bytes: 105 * MIB, kv_running_bytes: 0, kv_prefix_bytes: 0, kv_limit_bytes: 256 * MIB },
    variants: [{ ...variant("dense", null, 0, 0, 0, { share: 1 }), requests: 0, answer_tokens: 0, latency }], requests: [], log: [],
  };
}
