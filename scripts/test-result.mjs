/**
 * test-result.mjs DIR: names the failures of the result files in DIR and prints `N passed, N failed` as the last line.
 * Fails when a test or a step (a line each in DIR/failed-steps) failed, and when nothing ran at all.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const [dir = ''] = process.argv.slice(2)
const total = { passed: 0, failed: 0, skipped: 0 }

for (const file of readdirSync(dir).filter((name) => name.endsWith('.json'))) {
  const result = JSON.parse(readFileSync(join(dir, file), 'utf8'))
  total.passed += result.numPassedTests
  // A file that could not be loaded has no tests; it counts as one.
  total.failed += result.numFailedTests + result.numRuntimeErrorTestSuites
  total.skipped += result.numPendingTests + result.numTodoTests
  for (const suite of result.testResults.filter((/** @type {any} */ each) => each.status === 'failed')) {
    const names = suite.assertionResults
      .filter((/** @type {any} */ each) => each.status === 'failed')
      .map((/** @type {any} */ each) => each.fullName)
    for (const name of names.length > 0 ? names : ['(did not load)'])
      console.log(`failed: ${suite.name}: ${name}`)
  }
}

const steps = join(dir, 'failed-steps')
if (existsSync(steps)) {
  for (const step of readFileSync(steps, 'utf8').trim().split('\n')) {
    total.failed += 1
    console.log(`failed: ${step}`)
  }
}

const cargoLog = join(dir, 'cargo.log')
if (existsSync(cargoLog)) {
  for (const [, passed, failed] of readFileSync(cargoLog, 'utf8').matchAll(
    /^test result:.* (\d+) passed; (\d+) failed/gm,
  )) {
    total.passed += Number(passed)
    total.failed += Number(failed)
  }
}

if (total.skipped > 0) console.log(`${total.skipped} skipped`)
if (total.passed + total.failed === 0) console.log('no test ran')
console.log(`${total.passed} passed, ${total.failed} failed`)
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1)
