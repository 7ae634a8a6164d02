"use strict";
// Blind mode: whose latent is it? The tally is kept for the session and holds no latents.
const saeBlind = (() => {
  const KEY = "sae-blind";

  function choose(n, k) {
    let ways = 1;
    for (let i = 1; i <= k; i++) ways = (ways * (n - k + i)) / i;
    return ways;
  }

  function atLeast(right, n, p) {
    let sum = 0;
    for (let k = right; k <= n; k++) sum += choose(n, k) * p ** k * (1 - p) ** (n - k);
    return sum;
  }

  // The p at which a probability that rises with p reaches a value.
  function reaches(rising, value) {
    let low = 0, high = 1;
    for (let i = 0; i < 50; i++) {
      const middle = (low + high) / 2;
      if (rising(middle) < value) low = middle; else high = middle;
    }
    return (low + high) / 2;
  }

  // Exact 95 % interval of a share (Clopper and Pearson 1934, Biometrika 26).
  function interval(right, n) {
    const low = right ? reaches((p) => atLeast(right, n, p), 0.025) : 0;
    const high = right < n ? reaches((p) => atLeast(right + 1, n, p), 0.975) : 1;
    return [low, high];
  }

  function sentence(right, n) {
    if (!n) return "No guesses yet.";
    const [low, high] = interval(right, n);
    const whole = (share) => `${Math.round(100 * share)} %`;
    const counted = `${right} of ${n} right: ${whole(right / n)}, 95 % interval ${whole(low)} to ${whole(high)}; chance is 50 %.`;
    if (low > 0.5) return `${counted} You tell them apart better than by chance.`;
    if (high < 0.5) return `${counted} You tell them apart, but take each for the other.`;
    return `${counted} So far this is no different from guessing.`;
  }

  // A page opened from disk may have no storage; the tally then lasts as long as the page.
  let tally = { right: 0, n: 0 };
  try { tally = JSON.parse(sessionStorage.getItem(KEY)) || tally; } catch { /* as above */ }

  function count(isRight) {
    tally = { right: tally.right + isRight, n: tally.n + 1 };
    try { sessionStorage.setItem(KEY, JSON.stringify(tally)); } catch { /* as above */ }
    return sentence(tally.right, tally.n);
  }

  // One half trained, the other half from a baseline at random.
  function draw(members) {
    const trained = members.filter((member) => member.is_trained);
    const baselines = members.filter((member) => !member.is_trained);
    const from = Math.random() < 0.5 ? trained : baselines;
    return from[Math.floor(Math.random() * from.length)];
  }

  return { count, draw, interval, sentence, tally: () => sentence(tally.right, tally.n) };
})();
