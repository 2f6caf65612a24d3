/** What this library says while it works; pino's form. No payload and no secret is ever among the fields. */
export interface MessagingLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}
