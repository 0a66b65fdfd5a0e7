export const KeyUsage = () => null;
