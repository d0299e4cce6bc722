-- Sends each study with CT slices to the modality "lnq" once it is stable, and again only where slices were added.
-- The results that come back make the study stable once more, and add no CT slices.

local SENT = '4242'  -- number of a metadata entry of our own: how many CT slices were sent

function OnStableStudy(study, tags, metadata)
   local count = 0
   for _, series in pairs(ParseJson(RestApiGet('/studies/' .. study .. '/series'))) do
      if series['MainDicomTags']['Modality'] == 'CT' then
         count = count + #series['Instances']
      end
   end
   if count > 0 and metadata[SENT] ~= tostring(count) then
      RestApiPut('/studies/' .. study .. '/metadata/' .. SENT, tostring(count))
      RestApiPost('/modalities/lnq/store', DumpJson({Resources = {study}, Asynchronous = true}, true))
   end
end
