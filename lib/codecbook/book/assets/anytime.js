// Statistics that hold at all times at once, so that a listener may look after every answer and stop at any.
// The same as codecbook.measure.anytime, which says where they come from.

const LEVEL = 0.95;
const GRID = Array.from({ length: 1001 }, (_, i) => i / 1000);
const MOST_STAKED = 0.9;

/** Likelihood ratio of a share of correct answers drawn evenly from 1/2 to 1, against guessing. */
export function eValue(correct, n) {
  let term = (n + 1) / (n + 1 - correct);
  let sum = 0;
  for (let j = correct; j >= 0; j--) {
    sum += term;
    term *= j / (n + 2 - j);
  }
  return sum / (n + 1);
}

/** E-value, anytime-valid p and confidence sequence of the share of correct answers, which are given in their order. */
export function evidence(answers) {
  const growth = GRID.map(() => 0);
  const peak = GRID.map(() => 0);
  let correct = 0;
  let best = 1;
  answers.forEach((answer, i) => {
    const likely = (answer ? correct + 1 : i - correct + 1) / (i + 2);
    GRID.forEach((m, g) => {
      growth[g] += Math.log(likely) - Math.log(answer ? m : 1 - m);
      peak[g] = Math.max(peak[g], growth[g]);
    });
    correct += answer ? 1 : 0;
    best = Math.max(best, eValue(correct, i + 1));
  });
  const n = answers.length;
  return { correct, n, e: eValue(correct, n), p: 1 / best, share: interval(correct / n, peak, 1 / (1 - LEVEL)) };
}

/** Mean of values between two bounds with a confidence sequence: the hedged capital of Waudby-Smith and Ramdas. */
export function meanSequence(values, lowest = 0, highest = 1) {
  const up = GRID.map(() => 0);
  const down = GRID.map(() => 0);
  const peak = GRID.map(() => 0);
  let [total, spread, variance] = [0.5, 0.25, 0.25];
  values.forEach((raw, i) => {
    const n = i + 1;
    const value = (raw - lowest) / (highest - lowest);
    const stake = Math.sqrt((2 * Math.log(2 / (1 - LEVEL))) / (variance * n * Math.log(n + 1)));
    GRID.forEach((m, g) => {
      up[g] += Math.log1p(Math.min(stake, MOST_STAKED / m) * (value - m));
      down[g] += Math.log1p(-Math.min(stake, MOST_STAKED / (1 - m)) * (value - m));
      peak[g] = Math.max(peak[g], up[g], down[g]);
    });
    total += value;
    spread += (value - total / (n + 1)) ** 2;
    variance = spread / (n + 1);
  });
  const scaled = interval(0, peak, 2 / (1 - LEVEL));
  const [low, high] = [scaled.low, scaled.high].map((end) => lowest + (highest - lowest) * end);
  return { mean: values.reduce((a, b) => a + b, 0) / values.length, low, high, n: values.length };
}

function interval(mean, logGrowth, bound) {
  const inside = logGrowth.map((growth) => growth < Math.log(bound));
  if (!inside.includes(true)) inside[logGrowth.indexOf(Math.min(...logGrowth))] = true;
  const low = GRID[Math.max(0, inside.indexOf(true) - 1)];
  return { mean, low, high: GRID[Math.min(GRID.length - 1, inside.lastIndexOf(true) + 1)] };
}
