/** Paths and settings that set-up found: SANDTRAIL_RUNSC, SANDTRAIL_BASE_IMAGE, ... */
export function tools(): Record<string, string | undefined>
