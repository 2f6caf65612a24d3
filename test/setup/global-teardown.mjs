/** Ends the servers of global-setup.mjs, and whatever a test file left of them. */
export default async function tearDown() {
  await globalThis.sandtrailTearDown?.()
}
