from training.backbone import LITE0, LITE2, blocks_of, build_backbone


def test_the_backbone_has_the_published_shape():
    assert len(blocks_of(LITE0)) == 16
    assert len(blocks_of(LITE2)) == 21
    backbone = build_backbone(LITE0, (64, 96))
    assert backbone.output_shape == (None, 2, 3, 1280)
    assert backbone.get_layer("block_4").output.shape == (None, 8, 12, 40)
