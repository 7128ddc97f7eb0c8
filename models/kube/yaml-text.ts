// YAML and JSON text to plain values, document by document, within limits: a hostile or huge file ends in an error, not
// in swap. Reads YAML 1.2 with merge keys (`<<`). Not as kubectl: `yes`, `on` and `0o17` are what YAML 1.2 says they are.

import { Composer, CST, type Document, isScalar, Lexer, LineCounter, Parser, visit } from 'yaml';
import { ManifestError } from './manifest-error.ts';

export interface YamlDocument {
  /** Counted from 1, as a reader counts what stands between the `---` lines. */
  readonly number: number;
  readonly value: unknown;
}

/** Characters of a file, so about bytes. Whoever reads files compares their size with it before reading. */
export const FILE_SIZE_LIMIT = 64e6;

/** Where reading ends in an error. */
export interface YamlLimits {
  readonly fileSize: number;
  readonly tokensPerDocument: number;
  /** After aliases are written out. */
  readonly valuesPerDocument: number;
}

export const YAML_LIMITS: YamlLimits = {
  fileSize: FILE_SIZE_LIMIT,
  // The yaml package needs some 400 bytes per token, so this is 1 GB; 10 MB of `kubectl get -o yaml` stay below.
  tokensPerDocument: 2_500_000,
  // A JSON file of the full size with 10 characters per value stays below.
  valuesPerDocument: 6_500_000,
};

/** Aliases followed per anchor, those inside it included; manifests written by people have a handful. */
const ALIASES_PER_ANCHOR = 100;
const DEPTH_LIMIT = 200;

/** The documents of a file, one at a time so that only one is in memory. Keys whose value is null are left out. */
export function* readYaml(file: string, text: string, limits: YamlLimits = YAML_LIMITS): Generator<YamlDocument> {
  if (text.length > limits.fileSize) {
    throw new ManifestError(
      `${file}: ${megabytes(text.length)} MB of text; expected at most ${megabytes(limits.fileSize)} MB`,
    );
  }
  const json = parseJson(text);
  if (json !== undefined) {
    yield { number: 1, value: withoutNulls(json, `${file}: document 1`, limits) };
    return;
  }
  const lines = new LineCounter();
  const composer = new Composer({ version: '1.2', merge: true, uniqueKeys: false });
  let number = 0;
  for (const document of composer.compose(limitedTokens(file, text, { lines, limits }))) {
    number++;
    throwFirstError(file, document, lines);
    const place = `${file}: document ${number}`;
    yield { number, value: withoutNulls(toValue(document, place), place, limits) };
  }
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);

/** JSON is read as such for its speed (100 times that of YAML); what is not quite JSON may still be YAML. */
function parseJson(text: string): unknown {
  if (!/^\s*[{[]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Stops before the composer, which recurses into nested collections, gets a document too big or too deep for it. */
function* limitedTokens(
  file: string,
  text: string,
  { lines, limits }: { lines: LineCounter; limits: YamlLimits },
): Generator<CST.Token> {
  const parser = new Parser(lines.addNewLine);
  lines.addNewLine(0);
  let tokens = 0;
  const stop = (problem: string): never => {
    throw new ManifestError(`${file}:${lines.linePos(parser.offset).line}: ${problem}`);
  };
  for (const lexeme of new Lexer().lex(text)) {
    tokens = CST.tokenType(lexeme) === 'doc-start' ? 0 : tokens + 1;
    if (tokens > limits.tokensPerDocument) {
      stop(`the document has over ${limits.tokensPerDocument} tokens; split it, or use JSON (kubectl get -o json)`);
    }
    if (parser.stack.length > DEPTH_LIMIT) stop(`nested deeper than ${DEPTH_LIMIT} levels`);
    yield* parser.next(lexeme);
  }
  yield* parser.end();
}

function throwFirstError(file: string, document: Document.Parsed, lines: LineCounter): void {
  const at = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const [error] = document.errors;
  if (error !== undefined) throw new ManifestError(`${at(error.pos[0])}: not YAML: ${oneLine(error.message)}`);
  // The package's own check for duplicates compares every pair of keys.
  visit(document, {
    Map(_, map) {
      const seen = new Set<unknown>();
      for (const { key } of map.items) {
        if (!isScalar(key)) continue;
        if (seen.has(key.value))
          throw new ManifestError(`${at(key.range?.[0] ?? 0)}: key "${key.value}" stands twice in one map`);
        seen.add(key.value);
      }
    },
  });
}

const oneLine = (message: string): string => message.replace(/\s+/g, ' ').trim();

function toValue(document: Document.Parsed, place: string): unknown {
  try {
    return document.toJS({ maxAliasCount: ALIASES_PER_ANCHOR });
  } catch (error) {
    if (!(error instanceof ReferenceError)) throw error;
    const bomb = error.message.startsWith('Excessive');
    const problem = bomb ? `an anchor stands for more than ${ALIASES_PER_ANCHOR} aliases` : oneLine(error.message);
    throw new ManifestError(`${place}: ${problem}`);
  }
}

/** Kubernetes reads a null field as an absent one (`labels:` with nothing below it, `creationTimestamp: null`). */
function withoutNulls(root: unknown, place: string, limits: YamlLimits): unknown {
  let values = 0;
  const count = (more: number): void => {
    values += more;
    if (values > limits.valuesPerDocument)
      throw new ManifestError(`${place}: more than ${limits.valuesPerDocument} values`);
  };
  const prune = (value: unknown, depth: number): void => {
    if (!(value instanceof Object)) return;
    if (depth > DEPTH_LIMIT) throw new ManifestError(`${place}: nested deeper than ${DEPTH_LIMIT} levels`);
    if (Array.isArray(value)) {
      count(value.length);
      for (const inner of value) prune(inner, depth + 1);
      return;
    }
    const entries = Object.entries(value);
    count(entries.length);
    for (const [key, inner] of entries) {
      if (inner === null) Reflect.deleteProperty(value, key);
      else prune(inner, depth + 1);
    }
  };
  prune(root, 0);
  return root ?? undefined;
}
