// Who may import whom, and what nobody may use: the rules that keep the layers apart, runs repeatable and names findable.
// Every rule is a function from a file and its text to complaints, each of which says what to do instead.
//
// The text is searched by regular expressions, after comments and the contents of strings are taken out; code that wants
// to hide from them can.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = dirname(import.meta.dirname);

// ── the rules as data ────────────────────────────────────────────────────────────────────────────────────────────────

/** From the ground up; folders in one row stand side by side. A file may import its own row and the rows above it here. */
const LAYERS: readonly (readonly string[])[] = [
  ['engine/'],
  ['models/cpu/'],
  ['models/packet/'],
  ['models/link/', 'models/netfilter/'],
  ['models/ip/'],
  ['models/transport/'],
  ['models/host/'],
  ['models/cni/'],
  ['models/kube/', 'models/dns/', 'models/workload/'],
  ['models/cluster'], // cluster.ts, and a folder should it need one
  ['models/parity/', 'models/conformance/'],
  ['experiments/', 'bench/'],
];

/** Imports that the layers allow and the design does not. The first row that fits a pair of files speaks. */
const APART: readonly { readonly from: RegExp; readonly to: RegExp; readonly instead: string }[] = [
  {
    from: /^models\/link\//,
    to: /^models\/netfilter\//,
    instead: 'let link declare the hook it needs as an interface, and models/host plug netfilter in',
  },
  {
    from: /^models\/netfilter\//,
    to: /^models\/link\//,
    instead: 'a DeviceRef (models/packet/frame.ts) is all that netfilter needs to know of a device',
  },
  {
    from: /^models\/kube\//,
    to: /^models\/(link\/|packet\/frame)/,
    instead: 'the control plane never sees a frame or a device; it makes rulesets and calls models/cni and models/host',
  },
  {
    from: /^models\/kube\/(?!kube-proxy\/|network-policy)/,
    to: /^models\/netfilter\//,
    instead: 'only kube-proxy and NetworkPolicy turn API objects into rules; do it there',
  },
  {
    from: /^models\/kube\//,
    to: /^models\/netfilter\/(netfilter|conntrack|walk)/,
    instead: 'kube makes rules (rule, chain, tables); it does not run them',
  },
];

/** The one folder in which a package is imported, by exactly one file that is its door. */
const DOORS: Readonly<Record<string, string>> = {
  'heap-js': 'engine/',
  seedrandom: 'engine/',
  'ipaddr.js': 'models/packet/',
  yaml: 'models/kube/',
  zod: 'models/kube/',
  'csv-parse': 'experiments/harness/',
  'csv-stringify': 'experiments/harness/',
  jstat: 'experiments/harness/',
  esbuild: 'experiments/harness/',
  vega: 'experiments/harness/',
  'vega-lite': 'experiments/harness/',
  '@resvg/resvg-js': 'experiments/harness/',
  'dejavu-fonts-ttf': 'experiments/harness/',
  'cli-progress': 'experiments/harness/',
  'cli-table3': 'experiments/harness/',
  commander: 'experiments/cli/',
  tinybench: 'bench/',
};

/** Node's own modules that a model may use: what neither waits nor looks at the machine. */
const BUILTINS_IN_MODELS: readonly { readonly name: string; readonly folder: string }[] = [
  { name: 'node:assert', folder: '' },
  { name: 'node:assert/strict', folder: '' },
  { name: 'node:crypto', folder: 'models/kube/kube-proxy/' }, // hashes in the names of chains
  { name: 'node:crypto', folder: 'models/cni/' }, // likewise
];

const NOT_IN_VIRTUAL_TIME: readonly { readonly pattern: RegExp; readonly instead: string }[] = [
  { pattern: /\bDate\b/, instead: 'the time of a run is simulator.now, place.now or cpus.instant' },
  { pattern: /\bperformance\b|\bhrtime\b/, instead: 'wall time is measured in bench/ and experiments/' },
  {
    pattern: /\bMath\s*\.\s*random\b|\brandomUUID\b|\bgetRandomValues\b/,
    instead: "draw from a stream named after its consumer: place.random('name')",
  },
  {
    pattern: /\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bnextTick\b/,
    instead: 'wait with place.schedule(delay, action, argument) or a Timer',
  },
  {
    pattern: /\basync\b|\bawait\b|\bPromise\b/,
    instead: 'call what is now, schedule what is later; events have an order',
  },
];

const NAMELESS = /(?:^|\/)(?:(?:utils?|helpers?|common|misc)(?:\/|\.ts$)|(?:types|constants)\.ts$)/;

const TOP_LEVEL: readonly string[] = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'README.md',
  'LICENSE',
  'engine',
  'models',
  'experiments',
  'bench',
  'results',
];
const GENERATED: readonly string[] = ['node_modules', 'dist'];

// ── this repository ──────────────────────────────────────────────────────────────────────────────────────────────────

describe('in this repository', () => {
  const files = readSources();

  test.each<[string, (file: string, text: string) => string[]]>([
    ['imports go down the layers', layerComplaints],
    ['link, netfilter and kube keep apart', apartComplaints],
    ['only virtual time passes in engine and models', virtualTimeComplaints],
    ['engine and models do not touch the machine', builtinComplaints],
    ['a file is named after what it is about', nameComplaints],
  ])('%s', (_, rule) => {
    expect(files.flatMap(({ file, text }) => rule(file, text))).toEqual([]);
  });

  test('every package has one door', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    expect(doorComplaints(files, Object.keys(dependencies))).toEqual([]);
  });

  test('the top level has what it should have', () => {
    expect(topLevelComplaints(readdirSync(ROOT))).toEqual([]);
  });
});

// ── the rules notice what they should ────────────────────────────────────────────────────────────────────────────────

describe('an import is refused', () => {
  test('up the layers', () => {
    expect(layerComplaints('models/ip/stack.ts', "import { Machine } from '../host/machine.ts';")).toEqual([
      'models/ip/stack.ts imports models/host/machine.ts, which stands above it: take what you need as an argument, or as an interface declared in models/ip/',
    ]);
    expect(
      layerComplaints('engine/timer.ts', "import type {\n  Frame,\n} from '../models/packet/frame.ts';"),
    ).toHaveLength(1);
    expect(layerComplaints('models/cni/plugin.ts', "export * from '../cluster.ts';")).toHaveLength(1);
    expect(layerComplaints('models/cni/plugin.ts', "const later = import('../cluster.ts');")).toHaveLength(1);
    expect(layerComplaints('models/kube/x.ts', "import '../../experiments/podwire.ts';")).toHaveLength(1);
    expect(layerComplaints('models/kube/x.ts', "import { x } from '../host/machine.ts';")).toEqual([]);
  });

  test('from a folder that is in no layer', () => {
    expect(layerComplaints('models/magic/wand.ts', '')).toEqual([
      'models/magic/wand.ts is in no layer: put it where it belongs, or add its folder to LAYERS in models/architecture.test.ts',
    ]);
  });

  test('between link and netfilter, both ways', () => {
    expect(apartComplaints('models/link/bridge.ts', "import { Rule } from '../netfilter/rule.ts';")).toEqual([
      'models/link/bridge.ts imports models/netfilter/rule.ts: let link declare the hook it needs as an interface, and models/host plug netfilter in',
    ]);
    expect(apartComplaints('models/netfilter/walk.ts', "import { Veth } from '../link/veth.ts';")).toHaveLength(1);
  });

  test.each<[string, string, number]>([
    ['models/kube/kubelet.ts', '../link/veth.ts', 1],
    ['models/kube/kubelet.ts', '../packet/frame.ts', 1],
    ['models/kube/kubelet.ts', '../packet/frame-store.ts', 1],
    ['models/kube/kubelet.ts', '../packet/ip-address.ts', 0],
    ['models/kube/kubelet.ts', '../netfilter/rule.ts', 1],
    ['models/kube/kube-proxy/iptables.ts', '../../netfilter/rule.ts', 0],
    ['models/kube/kube-proxy/iptables.ts', '../../netfilter/netfilter.ts', 1],
  ])('by kube of what is not its business: %s, %s', (file, specifier, complaints) => {
    expect(apartComplaints(file, `import { x } from '${specifier}';`)).toHaveLength(complaints);
  });

  test('of a package by a second file, in the wrong folder, or without a place in the list', () => {
    const door = { file: 'engine/heap-event-list.ts', text: "import { Heap } from 'heap-js';" };
    const second = { file: 'engine/timer.ts', text: "import { Heap } from 'heap-js';" };
    const elsewhere = { file: 'models/ip/fib.ts', text: "import { Heap } from 'heap-js';" };
    const unknown = { file: 'models/ip/fib.ts', text: "import _ from 'lodash/fp';" };
    const tests = { file: 'engine/timer.test.ts', text: "import { Heap } from 'heap-js';" };
    const fixture = { file: 'engine/timer.fixture.ts', text: "import { Heap } from 'heap-js';" };
    const peer = { file: 'bench/peers/heap-js.ts', text: "import { Heap } from 'heap-js';" };

    expect(doorComplaints([door, tests, fixture, peer], ['heap-js'])).toEqual([]);
    expect(doorComplaints([door, second], ['heap-js'])).toEqual([
      'heap-js is imported by engine/heap-event-list.ts, engine/timer.ts: one file wraps it, the others import that file',
    ]);
    expect(doorComplaints([elsewhere], ['heap-js'])).toEqual([
      'heap-js is imported by models/ip/fib.ts; expected in engine/: import the file that wraps it there',
    ]);
    expect(doorComplaints([door, unknown], ['heap-js'])).toEqual([
      'lodash (models/ip/fib.ts) has no door: say where it may be imported in DOORS of models/architecture.test.ts',
    ]);
    expect(doorComplaints([], ['lodash'])).toEqual([
      'lodash (package.json) has no door: say where it may be imported in DOORS of models/architecture.test.ts',
    ]);
    expect(doorComplaints([tests], ['heap-js'])).toEqual([
      'heap-js is a dependency that nothing imports: remove it from package.json',
    ]);
  });

  test("of the machine's modules by a model", () => {
    expect(builtinComplaints('models/kube/objects.ts', "import { readFileSync } from 'node:fs';")).toEqual([
      'models/kube/objects.ts imports node:fs: files, processes and threads belong to experiments/ and bench/; hand the content in as an argument',
    ]);
    expect(builtinComplaints('models/kube/objects.ts', "import { createHash } from 'node:crypto';")).toHaveLength(1);
    expect(
      builtinComplaints('models/kube/kube-proxy/chain-names.ts', "import { createHash } from 'node:crypto';"),
    ).toEqual([]);
    expect(builtinComplaints('models/ip/fib.ts', "import assert from 'node:assert/strict';")).toEqual([]);
    expect(builtinComplaints('experiments/harness/csv.ts', "import { readFileSync } from 'node:fs';")).toEqual([]);
  });
});

describe('a model is refused', () => {
  test.each([
    'const now = Date.now();',
    'const started = performance.now();',
    `const text = \`it is \${new Date()}\`;`,
    'const drop = Math.random() < 0.5;',
    'setTimeout(() => this.retry(), 1_000);',
    'async function run() {}',
    'return new Promise(() => {});',
  ])('%s', (line) => {
    expect(virtualTimeComplaints('models/ip/stack.ts', `const a = 1;\n${line}\n`)).toEqual([
      expect.stringMatching(/^models\/ip\/stack\.ts:2 uses .+: .+/),
    ]);
    expect(virtualTimeComplaints('experiments/harness/sweep.ts', line)).toEqual([]);
    expect(virtualTimeComplaints('models/ip/stack.test.ts', line)).toEqual([]);
  });

  test.each([
    '// Not the Date of the machine: the kernel awaits nobody here, and Math.random() is not for models.',
    '/** Unlike setTimeout. */',
    "throw new RangeError('async rules have no Date');",
    'const waited = updateDate + performanceOf(rule);',
  ])('but not for its words: %s', (line) => {
    expect(virtualTimeComplaints('models/ip/stack.ts', line)).toEqual([]);
  });
});

test('a file or folder without a subject is refused', () => {
  const names = [
    'models/utils/ip.ts',
    'models/ip/helpers.ts',
    'engine/types.ts',
    'models/common/x.ts',
    'bench/constants.ts',
  ];
  expect(names.flatMap((name) => nameComplaints(name))).toHaveLength(names.length);
  expect(nameComplaints('engine/types.ts')).toEqual([
    'engine/types.ts is named after nothing: put each thing with the concept it belongs to',
  ]);
  expect(['models/ip/record-types.ts', 'models/link/common-medium.ts'].flatMap((name) => nameComplaints(name))).toEqual(
    [],
  );
});

test('a new name at the top level is refused', () => {
  expect(topLevelComplaints(['engine', '.git', 'node_modules', 'scripts'])).toEqual([
    'scripts at the top level: everything stands in engine, models, experiments, bench or results',
  ]);
});

// ── the rules ────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Source {
  /** Path from the root, with slashes: `models/ip/stack.ts`. */
  readonly file: string;
  readonly text: string;
}

function layerComplaints(file: string, text: string): string[] {
  if (isTest(file)) return [];
  const own = layerOf(file);
  if (own === undefined) {
    return [
      `${file} is in no layer: put it where it belongs, or add its folder to LAYERS in models/architecture.test.ts`,
    ];
  }
  return importedFiles(file, text)
    .filter((imported) => (layerOf(imported) ?? Number.POSITIVE_INFINITY) > own)
    .map(
      (imported) =>
        `${file} imports ${imported}, which stands above it: take what you need as an argument, or as an interface declared in ${posix.dirname(file)}/`,
    );
}

function apartComplaints(file: string, text: string): string[] {
  if (isTest(file)) return [];
  return importedFiles(file, text).flatMap((imported) => {
    const apart = APART.find(({ from, to }) => from.test(file) && to.test(imported));
    return apart === undefined ? [] : [`${file} imports ${imported}: ${apart.instead}`];
  });
}

function virtualTimeComplaints(file: string, text: string): string[] {
  if (!isModel(file)) return [];
  const lines = withoutCommentsAndTexts(text).split('\n');
  return lines.flatMap((line, i) =>
    NOT_IN_VIRTUAL_TIME.flatMap(({ pattern, instead }) => {
      const found = pattern.exec(line);
      return found === null ? [] : [`${file}:${i + 1} uses ${found[0]}: ${instead}`];
    }),
  );
}

function builtinComplaints(file: string, text: string): string[] {
  if (!isModel(file)) return [];
  return specifiers(text)
    .filter(isBuiltin)
    .filter(
      (specifier) => !BUILTINS_IN_MODELS.some(({ name, folder }) => name === specifier && file.startsWith(folder)),
    )
    .map(
      (specifier) =>
        `${file} imports ${specifier}: files, processes and threads belong to experiments/ and bench/; hand the content in as an argument`,
    );
}

function nameComplaints(file: string): string[] {
  return NAMELESS.test(file) ? [`${file} is named after nothing: put each thing with the concept it belongs to`] : [];
}

/** Tests and their fixtures may import any package; benchmarks may import what they compare with. */
function doorComplaints(files: readonly Source[], dependencies: readonly string[]): string[] {
  const imports = files
    .filter(({ file }) => !isTest(file) && !file.endsWith('.fixture.ts'))
    .flatMap(({ file, text }) => packages(text).map((name) => ({ file, name })));
  const names = new Set([...dependencies, ...imports.map(({ name }) => name)]);
  return [...names].flatMap((name) => {
    const folder = DOORS[name];
    const importers = imports.filter((found) => found.name === name).map(({ file }) => file);
    if (folder === undefined) {
      const place = importers.join(', ') || 'package.json';
      return [`${name} (${place}) has no door: say where it may be imported in DOORS of models/architecture.test.ts`];
    }
    const doors = importers.filter((file) => folder === 'bench/' || !file.startsWith('bench/'));
    if (doors.length === 0) return [`${name} is a dependency that nothing imports: remove it from package.json`];
    if (doors.length > 1)
      return [`${name} is imported by ${doors.join(', ')}: one file wraps it, the others import that file`];
    if (doors[0]!.startsWith(folder)) return [];
    return [`${name} is imported by ${doors[0]}; expected in ${folder}: import the file that wraps it there`];
  });
}

function topLevelComplaints(names: readonly string[]): string[] {
  return names
    .filter((name) => !name.startsWith('.') && !TOP_LEVEL.includes(name) && !GENERATED.includes(name))
    .map((name) => `${name} at the top level: everything stands in engine, models, experiments, bench or results`);
}

// ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────

function readSources(): Source[] {
  return ['engine', 'models', 'experiments', 'bench'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && !path.endsWith('.d.ts'))
      .sort()
      .map((path) => posix.join(folder, path.replaceAll('\\', '/')))
      .map((file) => ({ file, text: readFileSync(join(ROOT, file), 'utf8') })),
  );
}

/** What compares models with recordings or with the real kernel is a test, whatever it is called. */
const isTest = (file: string): boolean => /\.test\.ts$|^models\/(?:parity|conformance)\//.test(file);
const isModel = (file: string): boolean => /^(?:engine|models)\//.test(file) && !isTest(file);

function layerOf(file: string): number | undefined {
  const layer = LAYERS.findIndex((folders) => folders.some((folder) => file.startsWith(folder)));
  return layer === -1 ? undefined : layer;
}

const importedFiles = (file: string, text: string): string[] =>
  specifiers(text)
    .filter((specifier) => specifier.startsWith('.'))
    .map((specifier) => posix.join(posix.dirname(file), specifier));

const isBuiltin = (specifier: string): boolean => specifier.startsWith('node:');

/** `csv-parse/sync` is of csv-parse, `@resvg/resvg-js` is a package in a scope. */
const packages = (text: string): string[] => {
  const outside = specifiers(text).filter((specifier) => !specifier.startsWith('.') && !isBuiltin(specifier));
  return [...new Set(outside.map((specifier) => /^(?:@[^/]+\/)?[^/]+/.exec(specifier)![0]))];
};

/** Everything that a file imports, re-exports, imports later or looks up as a module. */
function specifiers(text: string): string[] {
  const patterns = [
    /^\s*(?:import|export)\b[^'";()]*?\bfrom\s*['"]([^'"]+)['"]/gm,
    /^\s*import\s*['"]([^'"]+)['"]/gm,
    /\bimport\s*\(\s*['"]([^'"]+)['"]/g,
    /\b(?:require|import\.meta)\.resolve\(\s*['"`]([^'"`]+)['"`]/g,
  ];
  const code = withoutComments(text);
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1]!));
}

const COMMENT_OR_TEXT = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g;
const lineBreaksOf = (text: string): string => text.replaceAll(/[^\n]/g, '');

const withoutComments = (text: string): string =>
  text.replaceAll(COMMENT_OR_TEXT, (found) => (found.startsWith('/') ? lineBreaksOf(found) : found));

/** Also without what is quoted, except for the expressions in templates; lines keep their numbers. */
const withoutCommentsAndTexts = (text: string): string =>
  text.replaceAll(COMMENT_OR_TEXT, (found) => {
    const expressions = found.startsWith('`') ? [...found.matchAll(/\$\{([^}]*)\}/g)].map((match) => match[1]) : [];
    return expressions.join(' ') + lineBreaksOf(found);
  });
