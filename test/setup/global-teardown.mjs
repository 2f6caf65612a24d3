/** Ends the servers of global-setup.mjs, and every system that a test file left running. */
import { destroyOwned } from '../../scripts/system/sweep.mjs'

export default destroyOwned
