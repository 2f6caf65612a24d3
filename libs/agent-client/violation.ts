/** What the agent may not do. It runs in hostile surroundings, so one of these only costs it its connection. */

export type ViolationCode =
  | 'BAD_LENGTH'
  | 'BAD_OFFSET'
  | 'BAD_MESSAGE'
  | 'BAD_HELLO'
  | 'BAD_TOKEN'
  | 'OVERRUN'
  | 'UNEXPECTED'

export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation'

  /** The message is ours alone: nothing that the peer sent stands in it. */
  constructor(
    readonly code: ViolationCode,
    message: string,
  ) {
    super(message)
  }
}
