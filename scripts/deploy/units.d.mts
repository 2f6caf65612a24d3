/** Types of units.mjs for the tests, which are TypeScript. */
export function writeUnits(
  dir: string,
  values: { etc: string; state: string; user: string; node: string; natsServer: string },
): string[]
