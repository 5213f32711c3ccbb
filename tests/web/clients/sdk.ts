/** The client that @hey-api/openapi-ts generates. */
import { client } from "./sdk/client.gen.js";
import { getModel, predict, predictBatch } from "./sdk/sdk.gen.js";

export async function upload(baseUrl: string, image: File): Promise<string[]> {
  client.setConfig({ baseUrl });
  const one = await predict({ body: { image }, query: { detail: "true", lang: "en" } });
  if (!one.data?.detail) throw new Error(one.error?.code);
  const several = await predictBatch({ body: { image: [image, new File(["no image"], "notes.txt")] } });
  const codes = several.data?.results.map((result) => ("code" in result ? result.code : String(result.success)));
  const model = await getModel();
  return [
    one.data.success === 1 ? one.data.predictedClass : one.data.message,
    one.data.detail.decoder.format,
    ...(codes ?? []),
    model.data?.classNames.join() ?? "",
    await code(new File([], "empty.png")),
  ];
}

async function code(image: File): Promise<"empty_image" | "another"> {
  const { error } = await predict({ body: { image } });
  return error?.code === "empty_image" ? error.code : "another";
}
