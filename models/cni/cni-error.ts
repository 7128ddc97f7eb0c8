// Errors as the CNI specification (section 5) has plugins and runtimes report them: a code, a message, details.

/** Codes up to 99 are the specification's; 999 is what the plugins of containernetworking report whatever else went wrong as. */
export const CNI_ERROR = {
  incompatibleVersion: 1,
  unsupportedField: 2,
  unknownContainer: 3,
  invalidEnvironment: 4,
  ioFailure: 5,
  decoding: 6,
  invalidConfig: 7,
  tryAgainLater: 11,
  notAvailable: 50,
  limitedConnectivity: 51,
  internal: 999,
} as const;

const MEANINGS: Readonly<Record<number, string>> = {
  1: 'incompatible CNI version',
  2: 'unsupported field in network configuration',
  3: 'container unknown',
  4: 'invalid environment variables',
  5: 'I/O failure',
  6: 'cannot decode content',
  7: 'invalid network configuration',
  11: 'try again later',
  50: 'plugin not available',
  51: 'plugin not available, existing containers may be limited',
  999: 'internal error',
};

/** What the specification says of a code; undefined for one that is the plugin's own. */
export const meaningOf = (code: number): string | undefined => MEANINGS[code];

/** The JSON that a plugin prints when it fails. */
export interface CniErrorText {
  readonly cniVersion: string;
  readonly code: number;
  readonly msg: string;
  readonly details: string;
}

export class CniError extends Error {
  override readonly name = 'CniError';
  readonly code: number;
  readonly details: string;

  constructor(code: number, message: string, details = '') {
    super(message);
    this.code = code;
    this.details = details;
  }

  toJson(cniVersion: string): CniErrorText {
    return { cniVersion, code: this.code, msg: this.message, details: this.details };
  }
}

/** Of a range that cannot be used for pods. */
export class RangeConfigError extends CniError {
  constructor(message: string) {
    super(CNI_ERROR.invalidConfig, message);
  }
}

/** Something is wrong with what the plugin was configured to do. */
export const invalidConfig = (message: string): CniError => new CniError(CNI_ERROR.invalidConfig, message);

/** The plugin could not do it. */
export const failure = (message: string): CniError => new CniError(CNI_ERROR.internal, message);
