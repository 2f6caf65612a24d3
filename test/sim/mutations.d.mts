export const MUTATIONS: Record<string, { file: string; find: string; replace: string }>
export function mutate(path: string, text: string): string
