// Device names in rules: a name, or the beginning of one with `+` at its end.

/** `eth0` names one device; `eth+` and `+` do not. */
export const isOneDevice = (pattern: string): boolean => !pattern.endsWith('+');

/** Tests a device's name; no device has the empty name. */
export function deviceNameTest(pattern: string): (name: string) => boolean {
  if (isOneDevice(pattern)) return (name) => name === pattern;
  const beginning = pattern.slice(0, -1);
  return (name) => name.startsWith(beginning);
}

/** IFNAMSIZ with its terminating zero is 16. */
export const deviceNameProblem = (pattern: string): string | undefined =>
  pattern.length >= 1 && pattern.length <= 15 && !/[\s/]/.test(pattern)
    ? undefined
    : `"${pattern}" is no device name; expected 1 to 15 characters without blank or slash`;
