/** The types that openapi-typescript generates, with openapi-fetch: a form, several images, and the image as the body. */
import createClient from "openapi-fetch";
import type { paths } from "./openapi.js";

export async function upload(baseUrl: string, image: File): Promise<string[]> {
  const client = createClient<paths>({ baseUrl });
  const one = await client.POST("/predict", { body: { image }, bodySerializer: () => form(image), params: { query: { explain: "1" } } });
  const several = await client.POST("/predict/batch", { body: { image: [image, image] }, bodySerializer: () => form(image, image) });
  const raw = await client.POST("/predict", { body: image, bodySerializer: () => image, headers: { "Content-Type": image.type } });
  if (!one.data || !several.data || !raw.data) throw new Error(one.error?.code ?? several.error?.code ?? raw.error?.code);
  const empty = await client.POST("/predict", { body: new FormData() });
  return [
    one.data.success === 1 ? one.data.predictedClass : one.data.message,
    one.data.explanation?.method ?? "",
    ...several.data.results.map((result) => ("code" in result ? result.code : String(result.success))),
    String(raw.data.confidence === one.data.confidence),
    empty.error?.code ?? "",
  ];
}

function form(...images: File[]): FormData {
  const form = new FormData();
  for (const image of images) form.append("image", image);
  return form;
}
