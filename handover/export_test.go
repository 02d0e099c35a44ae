package handover

const PlaceholderFresh = placeholderFresh
