export function written() {}
