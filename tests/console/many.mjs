export async function many() {}
