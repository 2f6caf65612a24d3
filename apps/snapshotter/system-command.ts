import { systemCommandOf } from '#libs/command-handling'

export const systemCommand = systemCommandOf('system:snapshotter')
