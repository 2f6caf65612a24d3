/** stdout has no reader any more (`| head`): no error of ours, but what runs for that reader is to end with it. */

/** The process is gone by then, whatever the server says. */
const LAST_STEP_MS = 3_000
const SIGPIPE = 13

let lastStep: () => Promise<void> = async () => {}
let isBroken = false

/** What is done before the CLI ends because nobody reads its output. */
export function whenNobodyReads(step: () => Promise<void>): void {
  lastStep = step
}

/** Ends the CLI as the signal would that it does not get: 141. */
export function onOutputError({ code }: NodeJS.ErrnoException): void {
  if (code !== 'EPIPE') process.exit(125)
  if (isBroken) return
  isBroken = true
  const end = () => process.exit(128 + SIGPIPE)
  setTimeout(end, LAST_STEP_MS)
  lastStep().then(end, end)
}
