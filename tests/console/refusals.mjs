export async function refusals() {}
