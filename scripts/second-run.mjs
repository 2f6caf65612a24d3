/**
 * second-run.mjs list FIRST            prints the test files that failed in FIRST, a line each
 * second-run.mjs merge FIRST SECOND    puts the results of SECOND in the place of theirs, and says which differed
 *
 * Files that failed beside others get one more run, alone. One that passes then is named as unsteady: it is to be
 * mended, but it does not hide whether the rest is whole.
 */
import { readFileSync, writeFileSync } from 'node:fs'

const [verb, first = '', second = ''] = process.argv.slice(2)
/** @param {string} path */
const read = (path) => JSON.parse(readFileSync(path, 'utf8'))
/** @param {any} suite */
const failed = (suite) => suite.status === 'failed'

const result = read(first)
if (verb === 'list') {
  for (const suite of result.testResults.filter(failed)) console.log(suite.name)
} else {
  const again = new Map(read(second).testResults.map((/** @type {any} */ suite) => [suite.name, suite]))
  for (const suite of result.testResults.filter(failed)) {
    const rerun = again.get(suite.name)
    if (rerun && !failed(rerun)) console.log(`unsteady: ${suite.name} passed only when it ran alone`)
  }
  const testResults = result.testResults.map((/** @type {any} */ suite) => again.get(suite.name) ?? suite)
  const tests = testResults.flatMap((/** @type {any} */ suite) => suite.assertionResults)
  /** @param {string} status */
  const count = (status) => tests.filter((/** @type {any} */ test) => test.status === status).length
  const merged = {
    ...result,
    testResults,
    numPassedTests: count('passed'),
    numFailedTests: count('failed'),
    numRuntimeErrorTestSuites: testResults.filter(
      (/** @type {any} */ suite) =>
        failed(suite) && suite.assertionResults.every((/** @type {any} */ test) => test.status !== 'failed'),
    ).length,
  }
  writeFileSync(first, JSON.stringify(merged))
}
