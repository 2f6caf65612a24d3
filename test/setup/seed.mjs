/** Property tests: the same seed in every CI run, a new one elsewhere. SEED=n repeats a run. */
import fc from 'fast-check'

const { CI, SEED } = process.env
if (CI || SEED) fc.configureGlobal({ seed: Number(SEED ?? 20261124) })
