/** Dependencies point one way: apps -> libs -> domain. Run by `make check`. */
module.exports = {
  forbidden: [
    { name: 'apps-do-not-import-each-other', severity: 'error', from: { path: '^apps/([^/]+)/' }, to: { path: '^apps/', pathNot: '^apps/$1/' } },
    { name: 'libs-do-not-import-apps', severity: 'error', from: { path: '^libs/' }, to: { path: '^apps/' } },
    { name: 'domain-imports-nothing', severity: 'error', from: { path: '^libs/domain/', pathNot: '\\.spec\\.ts$' }, to: { pathNot: '^libs/domain/' } },
    { name: 'worker-has-no-database', severity: 'error', from: { path: '^apps/runtime-worker/' }, to: { path: '^(libs/event-store|node_modules/(pg|typeorm))' } },
    { name: 'cli-speaks-http-only', severity: 'error', from: { path: '^apps/cli/' }, to: { path: '^(libs/(event-store/(?!verify)|messaging|storage)|node_modules/(typeorm|@nats-io))' } },
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only', 'dynamic-import'] } } },
  ],
  options: { doNotFollow: { path: 'node_modules' }, tsConfig: { fileName: 'tsconfig.json' }, tsPreCompilationDeps: true, exclude: { path: '^dist' }, enhancedResolveOptions: { conditionNames: ['source', 'import', 'require', 'node', 'default'] } },
}
