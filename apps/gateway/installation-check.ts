export interface InstallationCheck {
  name: string
  /** What to do when it fails. */
  hint: string
  /** Resolves with what was found. @throws Error with what is wrong, and why that matters */
  probe(): Promise<string>
}
